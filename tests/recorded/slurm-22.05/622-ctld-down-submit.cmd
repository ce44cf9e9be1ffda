sbatch --parsable --chdir=/home/fireuser
# run as fireuser over ssh
# exit status 1
# 1.018 s (connection already open)
# SLURM_CONF names a port where no slurmctld listens
# standard input: '#!/bin/bash\ntrue\n'
