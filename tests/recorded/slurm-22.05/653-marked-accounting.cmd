SLURM_TIME_FORMAT=%s SLURM_BITSTR_LEN=0 sacct --noheader --parsable '--delimiter=0a1b2c3d' --allocations --format=JobID,User,Partition,WorkDir,Comment,SubmitLine --user=fireuser --starttime=now-172800seconds --endtime=now --state=BF,CA,CD,DL,F,NF,OOM,PD,PR,R,RQ,RS,RV,S,TO
# run as fireuser over ssh
# exit status 0
# the last 25 rows of the output
