scontrol show job 424
# run as fireuser over ssh
# exit status 0
# 0.014 s (connection already open)
