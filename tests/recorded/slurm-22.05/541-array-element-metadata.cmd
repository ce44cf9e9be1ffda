scontrol show job 78_2
# run as fireuser over ssh
# exit status 0
# 0.025 s (connection already open)
