quota --version
# run as soft over ssh
# exit status 0
# 1.143 s (with the ssh connection)
