quota -ug
# run as soft over ssh
# exit status 1
# 1.515 s (with the ssh connection)
