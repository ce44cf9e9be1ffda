sacctmgr --noheader --parsable2 show user name=fireuser withassoc format=user,defaultaccount,account,cluster
# run as fireuser over ssh
# exit status 1
# 0.020 s (connection already open)
# SLURM_CONF without accounting
