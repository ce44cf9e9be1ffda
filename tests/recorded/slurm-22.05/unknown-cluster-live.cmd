squeue --all --noheader --states=all --jobs=96 --clusters=west
# run as fireuser over ssh
# exit status 1
# 0.106 s (connection already open)
