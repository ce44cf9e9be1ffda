scontrol update JobId=2182 TimeLimit=3:00
# run as user17 over ssh
# exit status 1
