scontrol show job 999999
# run as fireuser over ssh
# exit status 1
# 0.040 s (connection already open)
