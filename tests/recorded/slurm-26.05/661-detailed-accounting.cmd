SLURM_TIME_FORMAT=%s SLURM_BITSTR_LEN=0 sacct --noheader --parsable '--delimiter=0a1b2c3d' --format=JobID,JobIDRaw,State,Reason,ExitCode,User,UID,Group,Account,Partition,Cluster,NNodes,NodeList,Priority,Submit,Start,End,ElapsedRaw,Suspended,TimelimitRaw,WorkDir,JobName,AllocTRES,ReqTRES,QOS,Comment,TotalCPU,MaxRSS --jobs=203,204,205
# run as fireuser over ssh
# exit status 0
# 0.511 s
