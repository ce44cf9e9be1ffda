sbatch --parsable --chdir=/home/fireuser
# run as fireuser over ssh
# exit status 255
# 0.019 s (connection already open)
# standard input: '#!/bin/bash\n#SBATCH --begin=abc\n'
