sacctmgr --noheader --parsable2 show user name=nobody9 withassoc format=user,defaultaccount,account,cluster
# run as fireuser over ssh
# exit status 0
# 0.194 s (connection already open)
