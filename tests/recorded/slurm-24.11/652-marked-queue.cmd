SLURM_TIME_FORMAT=%s SLURM_BITSTR_LEN=0 squeue --all --noheader --states=all --user=fireuser '--Format=JobArrayID:0a1b2c3d,UserName:0a1b2c3d,STDIN:0a1b2c3d,WorkDir:0a1b2c3d,Comment:0a1b2c3d'
# run as fireuser over ssh
# exit status 0
# the rows of the last 5 jobs
