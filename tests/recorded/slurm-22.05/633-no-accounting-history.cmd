SLURM_TIME_FORMAT=%s SLURM_BITSTR_LEN=0 sacct --noheader --parsable '--delimiter=0a1b2c3d' --format=JobID,JobIDRaw,State,Reason,ExitCode,User,UID,Group,Account,Partition,Cluster,NNodes,NodeList,Priority,Submit,Start,End,ElapsedRaw,Suspended,TimelimitRaw,WorkDir,JobName --jobs=72
# run as fireuser over ssh
# exit status 1
# 0.030 s (connection already open)
# SLURM_CONF without accounting
