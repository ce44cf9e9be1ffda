scancel --verbose 73
# run as user01 over ssh
# exit status 210
# 0.249 s (connection already open)
