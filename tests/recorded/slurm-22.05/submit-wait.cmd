sbatch --parsable w.sh
# run as fireuser over ssh
# exit status 3
# 2.031 s (connection already open)
