sbatch --parsable --chdir=/home/fireuser --job-name=held
# run as fireuser over ssh
# exit status 0
# 0.023 s (connection already open)
# standard input: '#!/bin/bash\n#SBATCH --hold\nsleep 1\n'
