srun --jobid=72 --overlap --nodes=1 --ntasks=1 --input=none bash -c true
# run as fireuser over ssh
# exit status 1
# 2.047 s (connection already open)
# slurmctld stopped by SIGSTOP, MessageTimeout=2
