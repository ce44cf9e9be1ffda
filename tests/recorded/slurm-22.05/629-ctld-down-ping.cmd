scontrol ping
# run as fireuser over ssh
# exit status 1
# 0.024 s (connection already open)
# SLURM_CONF names a port where no slurmctld listens
