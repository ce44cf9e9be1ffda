srun --jobid=999999 --overlap --nodes=1 --ntasks=1 --input=none bash -c true
# run as fireuser over ssh
# exit status 1
# 0.023 s (connection already open)
