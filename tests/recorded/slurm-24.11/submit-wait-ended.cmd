timeout 1 sbatch --parsable --wait --wrap 'sleep 3'
# run as fireuser over ssh
# exit status 124
