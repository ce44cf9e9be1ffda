SLURM_TIME_FORMAT=%s scontrol --all --oneliner show reservations
# run as fireuser over ssh
# exit status 1
# 1.041 s (connection already open)
# SLURM_CONF names a port where no slurmctld listens
