scontrol resume 12454
# run as root
# exit status 1
