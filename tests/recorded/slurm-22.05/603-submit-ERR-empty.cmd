sbatch --parsable --chdir=/home/fireuser
# run as fireuser over ssh
# exit status 1
# 0.017 s (connection already open)
# standard input:
