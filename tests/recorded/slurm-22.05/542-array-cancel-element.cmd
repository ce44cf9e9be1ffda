scancel --verbose 78_11
# run as fireuser over ssh
# exit status 0
# 0.021 s (connection already open)
