/nosuch/sbatch --parsable --chdir=/home/fireuser
# run as fireuser over ssh
# exit status 127
# 0.014 s (connection already open)
# standard input: '#!/bin/bash\ntrue\n'
