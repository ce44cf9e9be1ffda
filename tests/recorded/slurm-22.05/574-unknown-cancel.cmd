scancel --verbose 999999
# run as fireuser over ssh
# exit status 0
# 0.036 s (connection already open)
