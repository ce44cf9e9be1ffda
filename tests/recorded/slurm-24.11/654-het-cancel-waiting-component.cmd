scancel --verbose 1905+1
# run as user19 over ssh
# exit status 60
