scontrol show job 7_13
# run as fireuser over ssh
# exit status 0
