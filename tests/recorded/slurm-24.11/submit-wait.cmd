sbatch --parsable w.sh
# run as fireuser over ssh
# exit status 3
