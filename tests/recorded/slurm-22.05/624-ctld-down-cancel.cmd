scancel --verbose 72
# run as fireuser over ssh
# exit status 8
# 1.017 s (connection already open)
# SLURM_CONF names a port where no slurmctld listens
