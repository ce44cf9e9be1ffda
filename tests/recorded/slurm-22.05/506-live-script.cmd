scontrol write batch_script 72 -
# run as fireuser over ssh
# exit status 0
# 0.025 s (connection already open)
