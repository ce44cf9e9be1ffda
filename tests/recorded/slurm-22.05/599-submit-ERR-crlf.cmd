sbatch --parsable --chdir=/home/fireuser
# run as fireuser over ssh
# exit status 1
# 0.027 s (connection already open)
# standard input: '#!/bin/bash\r\ntrue\r\n'
