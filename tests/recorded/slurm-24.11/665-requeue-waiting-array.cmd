scontrol requeue 12452
# run as user17 over ssh
# exit status 1
