sbatch --parsable --chdir=/home/fireuser
# run as fireuser over ssh
# exit status 255
# 0.020 s (connection already open)
# standard input: '#!/bin/bash\n#SBATCH --nodes=abc\n'
