scontrol hold 12138
# run as user11 over ssh
# exit status 1
