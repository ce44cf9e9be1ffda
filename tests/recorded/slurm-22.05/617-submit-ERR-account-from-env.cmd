SBATCH_ACCOUNT=nosuch sbatch --parsable --chdir=/home/fireuser --export=ALL
# run as fireuser over ssh
# exit status 1
# 0.026 s (connection already open)
# standard input: '#!/bin/bash\ntrue\n'
