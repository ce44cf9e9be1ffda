ls
# run as fireuser over ssh
# exit status 0
# 0.023 s (connection already open)
