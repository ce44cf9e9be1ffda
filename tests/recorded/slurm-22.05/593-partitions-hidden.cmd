SLURM_TIME_FORMAT=%s scontrol --all --oneliner show partitions
# run as fireuser over ssh
# exit status 0
# 0.019 s (connection already open)
