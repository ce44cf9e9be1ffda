scontrol show job 8
# run as fireuser over ssh
# exit status 0
