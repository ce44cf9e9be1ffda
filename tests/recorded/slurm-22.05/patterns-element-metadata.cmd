scontrol show job 423_13
# run as fireuser over ssh
# exit status 0
# 0.030 s (connection already open)
