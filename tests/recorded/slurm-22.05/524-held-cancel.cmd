scancel --verbose 73
# run as fireuser over ssh
# exit status 0
# 0.017 s (connection already open)
