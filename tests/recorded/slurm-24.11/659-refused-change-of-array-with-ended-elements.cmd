scontrol update JobId=12452 Partition=none
# run as user17 over ssh
# exit status 1
