scontrol update JobId=10752 Partition=none
# run as user17 over ssh
# exit status 1
