scontrol show config
# run as fireuser over ssh
# exit status 0
# 0.268 s (connection already open)
