sbatch --parsable --chdir=/home/fireuser --account=nosuch
# run as fireuser over ssh
# exit status 1
# 0.020 s (connection already open)
# standard input: '#!/bin/bash\ntrue\n'
