scontrol suspend 2182
# run as root
# exit status 1
