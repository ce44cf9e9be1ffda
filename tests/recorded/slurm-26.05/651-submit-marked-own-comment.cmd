sbatch --parsable --chdir=/flamecrest-aaaaaaaaaaaaaaaaaaaa-bbbbbbbb --input=/dev/////////////////////////////////////////////////////////////////////////////////////////////////////////./////./////./////./////./////./////./////./null --chdir=/home/fireuser --comment=mine
# run as fireuser over ssh
# exit status 0
# standard input: '#!/bin/sh\nsleep 1\n'
