SLURM_TIME_FORMAT=%s scontrol --all --oneliner show partitions
# run as fireuser over ssh
# exit status 1
# 1.018 s (connection already open)
# SLURM_CONF names a port where no slurmctld listens
