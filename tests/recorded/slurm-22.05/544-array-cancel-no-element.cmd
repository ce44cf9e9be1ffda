scancel --verbose '78_[50-60]'
# run as fireuser over ssh
# exit status 0
# 0.029 s (connection already open)
