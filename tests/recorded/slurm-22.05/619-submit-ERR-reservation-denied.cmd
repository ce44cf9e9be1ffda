sbatch --parsable --chdir=/home/user01 --reservation=testres
# run as user01 over ssh
# exit status 1
# 0.020 s (connection already open)
# standard input: '#!/bin/bash\ntrue\n'
