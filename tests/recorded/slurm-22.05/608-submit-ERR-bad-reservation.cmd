sbatch --parsable --chdir=/home/fireuser --reservation=nosuch
# run as fireuser over ssh
# exit status 1
# 0.019 s (connection already open)
# standard input: '#!/bin/bash\ntrue\n'
