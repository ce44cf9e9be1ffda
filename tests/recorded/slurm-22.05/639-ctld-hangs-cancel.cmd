scancel --verbose 999999
# run as fireuser over ssh
# exit status 140
# 2.041 s (connection already open)
# slurmctld stopped by SIGSTOP, MessageTimeout=2
