sbatch --parsable --clusters=west --wrap true
# run as fireuser over ssh
# exit status 1
# 0.109 s (connection already open)
