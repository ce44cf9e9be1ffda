sbatch --parsable --clusters=cluster --wrap true
# run as fireuser over ssh
# exit status 0
# 0.372 s (connection already open)
