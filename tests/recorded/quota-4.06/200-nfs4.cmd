sh -c 'export LC_ALL=C
cd / && command -v quota >/dev/null && stat -L -c '"'"'%f %g'"'"' -- "$1" && id -g || exit 0
on=$(df --output=source -- "$1" | tail -n 1)
[ -b "$on" ] || on=$(stat -L -c %m -- "$1")
exec quota -u -g -v -w -p -f -- "$on"
' sh /nfs/home/soft
# run as soft over ssh
# exit status 1
# 2.133 s (with the ssh connection)
