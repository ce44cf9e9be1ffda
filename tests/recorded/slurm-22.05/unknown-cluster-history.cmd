sacct --noheader --parsable --jobs=96 --clusters=west
# run as fireuser over ssh
# exit status 0
# 0.111 s (connection already open)
