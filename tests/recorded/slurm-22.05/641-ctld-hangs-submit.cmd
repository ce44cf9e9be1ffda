sbatch --parsable --chdir=/home/fireuser --job-name=maybe
# run as fireuser over ssh
# exit status 1
# 2.060 s (connection already open)
# slurmctld stopped by SIGSTOP, MessageTimeout=2
# standard input: '#!/bin/bash\ntrue\n'
