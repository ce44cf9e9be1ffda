sh -c 'export LC_ALL=C
cd / && command -v quota >/dev/null && stat -L -c '"'"'%f %g'"'"' -- "$1" && id -g || exit 0
on=$(df --output=source -- "$1" | tail -n 1)
[ -b "$on" ] || on=$(stat -L -c %m -- "$1")
exec quota -u -g -v -w -p -f -- "$on"
' sh /home/secret/file
# run as plain over ssh
# exit status 0
# 1.244 s (with the ssh connection)
