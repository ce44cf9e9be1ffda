sbatch --parsable --chdir=/home/fireuser
# run as fireuser over ssh
# exit status 255
# 0.018 s (connection already open)
# standard input: '#!/bin/bash\n#SBATCH --nosuch=1\n'
