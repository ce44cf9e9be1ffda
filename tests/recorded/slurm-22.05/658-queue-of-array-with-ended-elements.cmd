SLURM_TIME_FORMAT=%s SLURM_BITSTR_LEN=0 squeue --all --noheader --states=all '--Format=JobArrayID:0a1b2c3d,JobID:0a1b2c3d,State:0a1b2c3d,Reason:0a1b2c3d,exit_code:0a1b2c3d,RestartCnt:0a1b2c3d,UserName:0a1b2c3d,GroupName:0a1b2c3d,Account:0a1b2c3d,Partition:0a1b2c3d,Cluster:0a1b2c3d,NumNodes:0a1b2c3d,NodeList:0a1b2c3d,PriorityLong:0a1b2c3d,SubmitTime:0a1b2c3d,StartTime:0a1b2c3d,EndTime:0a1b2c3d,TimeUsed:0a1b2c3d,TimeLimit:0a1b2c3d,WorkDir:0a1b2c3d,Name:0a1b2c3d' --jobs=10752
# run as user17 over ssh
# exit status 0
