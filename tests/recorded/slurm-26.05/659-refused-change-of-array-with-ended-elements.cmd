scontrol update JobId=2180 Partition=none
# run as user17 over ssh
# exit status 1
