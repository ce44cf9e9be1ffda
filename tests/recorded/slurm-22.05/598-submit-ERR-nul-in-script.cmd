sbatch --parsable --chdir=/home/fireuser
# run as fireuser over ssh
# exit status 1
# 0.022 s (connection already open)
# standard input: '#!/bin/bash\ntrue\n\x00x\n'
