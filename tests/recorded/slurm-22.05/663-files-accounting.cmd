SLURM_TIME_FORMAT=%s SLURM_BITSTR_LEN=0 sacct --noheader --parsable '--delimiter=0a1b2c3d' --format=JobID,JobIDRaw,State,Reason,ExitCode,User,UID,Group,Account,Partition,Cluster,NNodes,NodeList,Priority,Submit,Start,End,ElapsedRaw,Suspended,TimelimitRaw,WorkDir,JobName,AllocTRES,ReqTRES,QOS,Comment,TotalCPU,MaxRSS --jobs=8898,8899,8900,8902,8903,8904
# run as fireuser over ssh
# exit status 0
