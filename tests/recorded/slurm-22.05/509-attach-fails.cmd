srun --jobid=72 --overlap --nodes=1 --ntasks=1 --input=none bash -c 'echo no >&2; exit 3'
# run as fireuser over ssh
# exit status 3
# 0.082 s (connection already open)
