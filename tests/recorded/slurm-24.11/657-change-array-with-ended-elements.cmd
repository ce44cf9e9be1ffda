scontrol update JobId=12452 TimeLimit=3:00
# run as user17 over ssh
# exit status 1
