scontrol show job 422
# run as fireuser over ssh
# exit status 0
# 0.032 s (connection already open)
