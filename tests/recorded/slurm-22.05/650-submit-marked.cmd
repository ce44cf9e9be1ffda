sbatch --parsable --comment=flamecrest-aaaaaaaaaaaaaaaaaaaa-aaaaaaaa --chdir=/home/fireuser
# run as fireuser over ssh
# exit status 0
# 0.068 s (connection already open)
# standard input: '#!/bin/sh\nsleep 1\n'
