sacct --jobs=999999 --batch-script
# run as fireuser over ssh
# exit status 0
# 0.102 s (connection already open)
