scontrol --clusters=west show job 96
# run as fireuser over ssh
# exit status 1
