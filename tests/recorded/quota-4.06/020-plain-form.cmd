quota
# run as soft over ssh
# exit status 1
# 1.280 s (with the ssh connection)
