sacct --jobs=8 --batch-script
# run as fireuser over ssh
# exit status 0
# 0.113 s (connection already open)
