sbatch --parsable --clusters=west --wrap true
# run as fireuser over ssh
# exit status 1
