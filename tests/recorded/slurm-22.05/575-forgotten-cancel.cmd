scancel --verbose 8
# run as fireuser over ssh
# exit status 0
# 0.022 s (connection already open)
