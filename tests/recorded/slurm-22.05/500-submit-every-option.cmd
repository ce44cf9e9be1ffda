GREETING='it'"'"'s
"x", `y` = 漢字' EMPTY='' sbatch --parsable --chdir=/home/fireuser '--job-name=my "job" | é' --account=test --partition=debug --constraint=fake --input=/dev/null '--output=/home/fireuser/o %j.txt' '--error=/home/fireuser/e %x.txt' --export=ALL
# run as fireuser over ssh
# exit status 0
# 0.018 s (connection already open)
# standard input: '#!/bin/bash\necho "$GREETING"\nsleep 8\n'
