scontrol suspend 10754
# run as root
# exit status 1
