sbatch --parsable --chdir=/home/fireuser -- /tmp/hsconf/fail.sh
# run as fireuser over ssh
# exit status 0
# 0.049 s (connection already open)
# standard input:
