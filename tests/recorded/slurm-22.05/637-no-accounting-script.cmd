sacct --jobs=72 --batch-script
# run as fireuser over ssh
# exit status 1
# 0.019 s (connection already open)
# SLURM_CONF without accounting
