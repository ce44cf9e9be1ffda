scontrol write batch_script 73 -
# run as user01 over ssh
# exit status 0
# 0.018 s (connection already open)
