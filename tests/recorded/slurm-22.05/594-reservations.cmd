SLURM_TIME_FORMAT=%s scontrol --all --oneliner show reservations
# run as fireuser over ssh
# exit status 0
# 0.025 s (connection already open)
