sacct --jobs=72 --batch-script
# run as fireuser over ssh
# exit status 0
# 0.127 s (connection already open)
