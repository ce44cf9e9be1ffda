sbatch --parsable --chdir=/flamecrest-eeeeeeeeeeeeeeeeeeee-eeeeeeee --chdir=/home/fireuser///./////./////.///. --input=/dev/null --comment=mine
# run as fireuser over ssh
# exit status 0
# standard input: '#!/bin/sh\nsleep 1\n'
