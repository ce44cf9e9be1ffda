scontrol write batch_script 72 -
# run as fireuser over ssh
# exit status 0
# 1.022 s (connection already open)
# SLURM_CONF names a port where no slurmctld listens
