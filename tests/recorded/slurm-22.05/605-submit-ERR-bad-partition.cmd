sbatch --parsable --chdir=/home/fireuser --partition=nosuch
# run as fireuser over ssh
# exit status 1
# 0.020 s (connection already open)
# standard input: '#!/bin/bash\ntrue\n'
