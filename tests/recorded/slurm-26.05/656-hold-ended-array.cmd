scontrol hold 1918
# run as user11 over ssh
# exit status 1
