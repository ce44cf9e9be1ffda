scontrol show job 72
# run as fireuser over ssh
# exit status 0
# 0.033 s (connection already open)
