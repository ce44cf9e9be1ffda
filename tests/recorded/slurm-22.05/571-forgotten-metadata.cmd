scontrol show job 8
# run as fireuser over ssh
# exit status 1
# 0.023 s (connection already open)
