sbatch --clusters=cluster --wrap true
# run as fireuser over ssh
# exit status 0
