sbatch --parsable --chdir=/flamecrest-aaaaaaaaaaaaaaaaaaaa-bbbbbbbb --chdir=/home/fireuser --comment=mine
# run as fireuser over ssh
# exit status 0
# 0.082 s (connection already open)
# standard input: '#!/bin/sh\nsleep 1\n'
