SLURM_TIME_FORMAT=%s scontrol --oneliner show partitions
# run as fireuser over ssh
# exit status 0
# 0.016 s (connection already open)
