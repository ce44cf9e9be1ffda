scontrol show job 6
# run as fireuser over ssh
# exit status 0
