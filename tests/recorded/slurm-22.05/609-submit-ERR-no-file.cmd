sbatch --parsable --chdir=/home/fireuser -- /nosuch.sh
# run as fireuser over ssh
# exit status 1
# 0.017 s (connection already open)
# standard input:
