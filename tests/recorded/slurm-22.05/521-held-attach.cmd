srun --jobid=73 --overlap --nodes=1 --ntasks=1 --input=none bash -c true
# run as fireuser over ssh
# exit status 1
# 0.019 s (connection already open)
