sbatch --parsable --chdir=/home/fireuser -- /etc/shadow
# run as fireuser over ssh
# exit status 1
# 0.022 s (connection already open)
# standard input:
