LC_ALL=xx_YY.UTF-8 sbatch --parsable --chdir=/home/fireuser --export=ALL
# run as fireuser over ssh
# exit status 0
# 0.027 s (connection already open)
# standard input: '#!/bin/bash\ntrue\n'
