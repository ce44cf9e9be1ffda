sacct --jobs=72 --batch-script
# run as fireuser over ssh
# exit status 1
# 0.012 s (connection already open)
# SLURM_CONF names a port where no slurmdbd listens
