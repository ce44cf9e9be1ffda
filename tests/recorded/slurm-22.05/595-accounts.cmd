sacctmgr --noheader --parsable2 show user name=fireuser withassoc format=user,defaultaccount,account,cluster
# run as fireuser over ssh
# exit status 0
# 0.202 s (connection already open)
