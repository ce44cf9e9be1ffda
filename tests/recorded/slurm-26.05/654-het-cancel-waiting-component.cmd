scancel --verbose 1666+1
# run as user19 over ssh
# exit status 60
