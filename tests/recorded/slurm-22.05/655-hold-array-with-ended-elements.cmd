scontrol hold 772
# run as user11 over ssh
# exit status 1
