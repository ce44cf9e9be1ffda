scontrol requeue 10752
# run as user17 over ssh
# exit status 1
