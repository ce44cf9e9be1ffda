srun --jobid=72 --overlap --nodes=1 --ntasks=1 --input=none bash -c 'echo attached'
# run as fireuser over ssh
# exit status 0
# 0.083 s (connection already open)
