scancel --verbose 205+1
# run as user19 over ssh
# exit status 60
