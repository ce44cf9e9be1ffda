SLURM_TIME_FORMAT=%s /nosuch/sinfo --all --Node --noheader '--Format=NodeList:0a1b2c3d,StateLong:0a1b2c3d,CPUs:0a1b2c3d,CPUsState:0a1b2c3d,Sockets:0a1b2c3d,Cores:0a1b2c3d,Threads:0a1b2c3d,CPUsLoad:0a1b2c3d,FreeMem:0a1b2c3d,AllocMem:0a1b2c3d,Weight:0a1b2c3d,NodeHost:0a1b2c3d,NodeAddr:0a1b2c3d,PartitionName:0a1b2c3d,Features:0a1b2c3d'
# run as fireuser over ssh
# exit status 127
# 0.013 s (connection already open)
