ls
# run as fireuser over ssh
# exit status 0
# 0.010 s (connection already open)
