scontrol show job 78
# run as fireuser over ssh
# exit status 0
# 0.021 s (connection already open)
