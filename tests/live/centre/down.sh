#!/bin/bash
# Stops what up.sh started, by pid. State stays, so that the next up.sh is quick and sacct remembers.
# down.sh              cancels running jobs first (slurmstepd and the jobs would otherwise outlive slurmd)
# down.sh --keep-jobs  leaves them running, as a real restart of the daemons does
# down.sh --purge      also deletes state, users and packages (back to nothing); of a chroot, all of it
# SUITE=trixie down.sh ...   the one in that chroot; ends whatever lives in it and unmounts
set -uo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/env.sh"
[ "$(id -u)" = 0 ] || { echo "down: must be root"; exit 1; }
if [ -n "$SUITE" ] && [ -z "$INSIDE" ]; then
  . "$HERE/suite.sh"
  mkdir -p "$CHROOTS" && exec 8>"$ROOT.lock" && flock 8
  [ -d "$ROOT" ] || { echo "down: there is no $ROOT"; exit 0; }
  if mountpoint -q "$ROOT/proc"; then enter /centre/scripts/down.sh $( [ "${1:-}" = --purge ] || echo "${1:-}" ) 8>&-; fi
  [ "${1:-}" != --keep-jobs ] || exit 0       # (they need what is mounted)
  leave_chroot
  if [ "${1:-}" = --purge ]; then
    m=$(mounts); [ -z "$m" ] || { echo "down: not deleted, $ROOT has mounts: $m"; exit 1; }
    rm -rf --one-file-system "$ROOT" "$ROOT.part" "$ROOT.log" && echo "down: $ROOT deleted"
  fi
  exit 0
fi
mkdir -p "$RUN"; exec 9>"$RUN/.lock"; flock 9
# stop NAME COMM SECONDS: TERM, wait, then KILL that one pid
stop() {
  local p i; p=$(pid_of "$1" "$2") || return 0
  kill -TERM "$p" 2>/dev/null
  for ((i=0; i<$3*20; i++)); do alive "$p" || break; sleep 0.05; done
  if alive "$p"; then echo "down: $1 ($p) did not stop on TERM, KILL"; kill -KILL "$p"; fi
  rm -f "$RUN/$1.pid"
}
if [ "${1:-}" != --keep-jobs ] && port_open "$CTLD_PORT" && [ -n "$(squeue -h -o %i 2>/dev/null | head -1)" ]; then
  scancel --quiet $(squeue -h -o %A | sort -un) 2>/dev/null
  for ((i=0; i<100; i++)); do [ -z "$(squeue -h -o %i 2>/dev/null)" ] && break; sleep 0.1; done
fi
stop slurmrestd slurmrestd 5
for n in $(nodes); do stop "slurmd.$n" slurmd 10 & done; wait
stop slurmctld slurmctld 15
stop slurmdbd slurmdbd 15
stop mysql/mariadbd mariadbd 30
stop munged munged 5
stop sshd sshd 5
if [ "${1:-}" = --purge ]; then
  for u in $(users); do
    # sessions of the test users (sshd children, shells, left-over jobs)
    uid=$(id -u "$u" 2>/dev/null) || continue
    for p in /proc/[0-9]*; do
      [ "$(stat -c %u "$p" 2>/dev/null)" != "$uid" ] || ! [ "$p/root" -ef / ] || kill -KILL "${p#/proc/}" 2>/dev/null
    done
    userdel -r "$u" >/dev/null 2>&1
  done
  userdel slurmrest 2>/dev/null; userdel mysql 2>/dev/null
  apt-get purge -y -q $PACKAGES slurm-wlm-basic-plugins slurm-wlm-mysql-plugin libmunge2 >"$CLUSTER_DIR/purge.log" 2>&1 9>&-
  apt-get autoremove --purge -y -q >>"$CLUSTER_DIR/purge.log" 2>&1 9>&-
  rm -rf "$ETC" "$LOG" "$STATE" "$KEYS" /etc/slurm /etc/munge /run/munge /var/log/munge /var/lib/munge "$RUN"
fi
echo down
