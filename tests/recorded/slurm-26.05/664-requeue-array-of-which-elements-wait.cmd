scontrol requeue 2180
# run as user17 over ssh
# exit status 1
