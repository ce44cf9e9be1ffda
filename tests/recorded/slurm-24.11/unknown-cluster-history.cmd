sacct --noheader --parsable --jobs=96 --clusters=west
# run as fireuser over ssh
# exit status 0
