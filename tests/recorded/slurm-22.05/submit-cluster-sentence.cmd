sbatch --clusters=cluster --wrap true
# run as fireuser over ssh
# exit status 0
# 0.111 s (connection already open)
