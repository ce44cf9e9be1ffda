scontrol ping
# run as fireuser over ssh
# exit status 1
# 2.028 s (connection already open)
# slurmctld stopped by SIGSTOP, MessageTimeout=2
