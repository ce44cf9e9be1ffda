ls
# run as fireuser over ssh
# exit status 0
