scontrol write batch_script 999999 -
# run as fireuser over ssh
# exit status 0
# 0.022 s (connection already open)
