scancel --verbose 87
# run as fireuser over ssh
# exit status 0
# 0.015 s (connection already open)
