scontrol show job 91
# run as fireuser over ssh
# exit status 0
# 0.020 s (connection already open)
