scancel --verbose --clusters=west 96
# run as fireuser over ssh
# exit status 1
