scontrol show job 72
# run as fireuser over ssh
# exit status 1
# 2.035 s (connection already open)
# SLURM_CONF names a port where no slurmctld listens
