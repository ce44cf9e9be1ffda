#!/bin/bash
# Health of each piece; exit 0 only when all are well.
set -uo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/env.sh"
if [ -n "$SUITE" ] && [ -z "$INSIDE" ]; then
  . "$HERE/suite.sh"
  mountpoint -q "$ROOT/proc" || { echo "no centre in $ROOT"; exit 1; }
  enter /centre/scripts/status.sh; exit
fi
bad=0
row() { printf '%-16s %-5s %s\n' "$1" "$2" "$3"; [ "$2" = ok ] || bad=1; }
piece() { local p; if p=$(pid_of "$2" "$3"); then row "$1" ok "pid $p ${4:-}"; else row "$1" DOWN ""; fi; }
piece sshd sshd sshd "127.0.0.1:$SSH_PORT"
piece munged munged munged
piece mariadbd mysql/mariadbd mariadbd "127.0.0.1:$DB_PORT"
piece slurmdbd slurmdbd slurmdbd "127.0.0.1:$DBD_PORT"
piece slurmctld slurmctld slurmctld "127.0.0.1:$CTLD_PORT"
i=0; for n in $(nodes); do i=$((i+1)); piece "slurmd $n" "slurmd.$n" slurmd "127.0.0.1:$((SLURMD_BASE_PORT+i))"; done
piece slurmrestd slurmrestd slurmrestd "127.0.0.1:$RESTD_PORT"
t() { local name=$1 out; shift; if out=$(timeout 10 "$@" 2>&1); then row "$name" ok "$(head -1 <<<"$out")"; else row "$name" BAD "$(head -1 <<<"$out")"; fi; }
t "munge round trip" bash -o pipefail -c 'munge -n | unmunge | head -1'
t "ssh key login"    ssh -F "$ETC/ssh/ssh_config" fireuser@cluster 'id -un; echo' 
t "scontrol ping"    bash -c 'scontrol ping | grep UP'
t "sacctmgr"         bash -c 'sacctmgr -nP show cluster format=cluster,controlhost | grep 127.0.0.1'
t "nodes"            bash -c '! sinfo -h -N -o "%t" | grep -qE "down|unk|drain|\*" && sinfo -h -o "%P %D %t"'
# the newest version of its API that it offers (before 23.02 a plugin each, no list)
api=$(setpriv --reuid=slurmrest --regid=slurmrest --clear-groups slurmrestd -d list 2>&1 | grep -oE 'v0\.0\.[0-9]+' | sort -V | tail -1)
api=${api:-v0.0.38}
rest_ping() {  # the token goes through a socket of our own: not into anybody's process list
  local SLURM_JWT; eval "$(scontrol token username=fireuser lifespan=60)" || return 1
  exec 3<>"/dev/tcp/127.0.0.1/$RESTD_PORT" || return 1
  printf '%s\r\n' "GET /slurm/$api/ping HTTP/1.1" 'Host: localhost' 'X-SLURM-USER-NAME: fireuser' "X-SLURM-USER-TOKEN: $SLURM_JWT" '' >&3
  head -1 <&3 | tr -d '\r' | grep ' 200 '
}
export -f rest_ping; export RESTD_PORT api
t "slurmrestd"       bash -o pipefail -c rest_ping
exit $bad
