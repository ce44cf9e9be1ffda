#!/bin/bash
# Brings up sshd + munge + MariaDB + slurmdbd + slurmctld + slurmd (several fake nodes) + slurmrestd
# on loopback, from nothing. Idempotent: what already runs is left alone. Run as root.
# Usage: up.sh [--no-restd]     Settings: env.sh, or the environment.
#        SUITE=trixie up.sh     the same of that Debian, in a chroot, side by side with others (other ports).
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/env.sh"
umask 022
T0=$(date +%s.%N)
say() { printf '[up %6.2fs] %s\n' "$(awk -v a="$(date +%s.%N)" -v b="$T0" 'BEGIN { print a - b }')" "$*"; }
die() { say "FAILED: $*"; exit 1; }
# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local n=$(( $1 * 20 )) what=$2; shift 2
  while ! "$@" >/dev/null 2>&1; do n=$((n-1)); [ $n -gt 0 ] || { last_words; die "$what did not come up; see $LOG"; }; sleep 0.05; done
}
last_words() {  # what the pieces said last, of those that wrote something within the last two minutes
  local f; for f in $(find "$LOG" -name '*.log' -mmin -2 ! -name apt.log); do grep -hiE 'fatal|error' "$f" | tail -2 | sed "s#^#  ${f##*/}: #"; done
}
[ "$(id -u)" = 0 ] || die "must be root"
if [ -n "$SUITE" ] && [ -z "$INSIDE" ]; then
  . "$HERE/suite.sh"
  mkdir -p "$CHROOTS" && exec 8>"$ROOT.lock" && flock 8        # one at a time for each suite
  make_chroot; prepare_chroot
  enter /centre/scripts/up.sh "$@" 8>&- || exit $?
  # for use from outside the chroot: its files as seen from here
  sed "s#/centre/#$CLUSTER_DIR/#" "$ETC/ssh/ssh_config" > "$ETC/ssh/ssh_config.outside"
  say "centre of Debian $SUITE: files in $CLUSTER_DIR; users' keys in $KEYS; ssh -F $ETC/ssh/ssh_config.outside fireuser@cluster; to go in: chroot $ROOT"
  exit 0
fi
mkdir -p "$CLUSTER_DIR" "$ETC"/{ssh,slurm} "$RUN" "$LOG" "$STATE" "$KEYS"
exec 9>"$RUN/.lock"; flock 9        # one up/down at a time

# ---------------------------------------------------------------- packages
install_packages() {
  local missing=() p st
  st=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $PACKAGES 2>/dev/null || true)
  for p in $PACKAGES; do case $'\n'$st$'\n' in *$'\n'"$p installed"$'\n'*) ;; *) missing+=("$p");; esac; done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing: ${missing[*]}"
  # No service may be started by a postinst. Put a policy in only if there is none, and take it out again.
  local made=
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; made=1
  fi
  local opts=(-y -q --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120
              -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io
              -o 'Dpkg::Options::=--path-exclude=/usr/share/man/*' -o 'Dpkg::Options::=--path-exclude=/usr/share/doc/*')
  local rc=0
  apt-get install "${opts[@]}" "${missing[@]}" > "$LOG/apt.log" 2>&1 9>&- ||
    { apt-get update -q >> "$LOG/apt.log" 2>&1 9>&- && apt-get install "${opts[@]}" "${missing[@]}" >> "$LOG/apt.log" 2>&1 9>&-; } || rc=$?
  [ -z "$made" ] || rm -f /usr/sbin/policy-rc.d
  [ $rc = 0 ] || { tail -20 "$LOG/apt.log"; die "apt-get install (rc $rc), see $LOG/apt.log"; }
  [ -z "$SUITE" ] || rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin
  say "packages installed"
}

# ---------------------------------------------------------------- users and keys
make_users() {
  local stamp="$STATE/.users.$NUSERS" u h
  [ -e "$stamp" ] && getent passwd fireuser >/dev/null && [ -s "$KEYS/user_ca" ] && return 0
  getent passwd mysql     >/dev/null || useradd -r -M -d /nonexistent -s /usr/sbin/nologin mysql
  getent passwd slurmrest >/dev/null || useradd -r -M -d /nonexistent -s /usr/sbin/nologin slurmrest
  [ -s "$KEYS/user_ca" ]  || ssh-keygen -q -t ed25519 -N '' -C user-ca -f "$KEYS/user_ca"
  [ -s "$ETC/ssh/host_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C host -f "$ETC/ssh/host_ed25519"
  [ -s "$ETC/ssh/host_rsa" ]     || ssh-keygen -q -t rsa -b 3072 -N '' -C host -f "$ETC/ssh/host_rsa"
  for u in $(users); do
    # '*' and not '!': with UsePAM no, sshd refuses an account whose password field starts with '!'
    getent passwd "$u" >/dev/null || useradd -m -d "/home/$u" -s /bin/bash -K HOME_MODE=0755 ${FIRST_UID:+-K UID_MIN=$FIRST_UID -K GID_MIN=$FIRST_UID} -p '*' "$u"
    h=/home/$u/.ssh
    [ -s "$KEYS/$u" ] || ssh-keygen -q -t ed25519 -N '' -C "$u" -f "$KEYS/$u"
    install -d -m 700 -o "$u" -g "$u" "$h"
    install -m 600 -o "$u" -g "$u" "$KEYS/$u.pub" "$h/authorized_keys"
  done
  { for p in ed25519 rsa; do printf '[127.0.0.1]:%s %s\n' "$SSH_PORT" "$(cut -d' ' -f1,2 "$ETC/ssh/host_$p.pub")"; done; } > "$ETC/ssh/known_hosts"
  : > "$stamp"; say "users and keys made"
}

# ---------------------------------------------------------------- configuration files
put() {  # put FILE MODE OWNER < content : writes only when it differs
  local t; t=$(mktemp "$ETC/.tmp.XXXXXX"); cat > "$t"
  if cmp -s "$t" "$1" 2>/dev/null; then rm -f "$t"; return 0; fi
  chmod "$2" "$t"; chown "$3" "$t"; mv -f "$t" "$1"; CHANGED=1
}
write_config() {
  local jwt=jwt_key=$ETC/slurm/jwt_hs256.key
  if [ -n "$JWKS_FILE" ] && [ -s "$JWKS_FILE" ]; then jwt=$jwt,jwks=$JWKS_FILE; fi
  local host; host=$(uname -n); host=${host%%.*}
  local version; version=$(slurmctld -V | sed -nE 's/^[^0-9]*([0-9]+)\.([0-9]+).*/\1\2/p')   # 2205, 2411, 2605
  [ -n "$version" ] || die "slurmctld -V says '$(slurmctld -V 2>&1)'"
  # no cgroups, no binding: the declared CPUs are not real
  local proctrack=proctrack/linuxproc task=task/none cgroup='' ram=no
  case $CGROUPS in
    none) if [ "$version" -ge 2311 ]; then cgroup=disabled; else cgroup=cgroup/v1; fi ;;
    v1|v2) proctrack=proctrack/cgroup task=task/cgroup cgroup=cgroup/$CGROUPS ram=yes ;;
    *) die "CGROUPS=$CGROUPS: none, v1 or v2" ;;
  esac
  CHANGED=
  put "$ETC/ssh/sshd_config" 644 root:root <<E
ListenAddress 127.0.0.1
Port $SSH_PORT
HostKey $ETC/ssh/host_ed25519
HostKey $ETC/ssh/host_rsa
PidFile $RUN/sshd.pid
AuthorizedKeysFile .ssh/authorized_keys
TrustedUserCAKeys $KEYS/user_ca.pub
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PermitRootLogin no
StrictModes yes
PrintMotd no
PrintLastLog no
X11Forwarding no
MaxSessions 100
MaxStartups 500:30:1000
LoginGraceTime 60
LogLevel VERBOSE
AcceptEnv LANG LC_*
# Debian's own /etc/ssh/sshd_config has: Subsystem sftp /usr/lib/openssh/sftp-server (an external program per session).
# sshd has no sftp at all without a Subsystem line.
Subsystem sftp internal-sftp
E
  put "$ETC/ssh/ssh_config" 644 root:root <<E
Host cluster
  HostName 127.0.0.1
  Port $SSH_PORT
  UserKnownHostsFile $ETC/ssh/known_hosts
  StrictHostKeyChecking yes
  IdentitiesOnly yes
  IdentityFile $KEYS/%r
  BatchMode yes
  LogLevel ERROR
E
  [ -s "$ETC/slurm/jwt_hs256.key" ] || { head -c 32 /dev/urandom > "$ETC/slurm/jwt_hs256.key"; chown slurm:slurm "$ETC/slurm/jwt_hs256.key"; chmod 600 "$ETC/slurm/jwt_hs256.key"; }
  [ -s "$STATE/db_password" ] || (umask 077; head -c 18 /dev/urandom | base64 | tr -d '+/=' > "$STATE/db_password")
  put "$ETC/slurm/slurmdbd.conf" 600 slurm:slurm <<E
AuthType=auth/munge
AuthAltTypes=auth/jwt
AuthAltParameters=$jwt
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$DBD_PORT
CommunicationParameters=NoInAddrAny
SlurmUser=slurm
LogFile=$LOG/slurmdbd.log
PidFile=$RUN/slurmdbd.pid
DebugLevel=info
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$DB_PORT
StorageUser=slurm
StoragePass=$(cat "$STATE/db_password")
StorageLoc=slurm_acct_db
E
  { cat <<E
ClusterName=$CLUSTER_NAME
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$CTLD_PORT
SlurmUser=slurm
SlurmdUser=root
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthAltTypes=auth/jwt
AuthAltParameters=$jwt
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/slurmd.%n.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd.%n.log
StateSaveLocation=$STATE/slurmctld
SlurmdSpoolDir=$STATE/slurmd.%n
SlurmctldDebug=info
SlurmdDebug=info
MpiDefault=none
MailProg=/usr/bin/true
ReturnToService=2
ProctrackType=$proctrack
TaskPlugin=$task
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
# short jobs start at once: no batch delay, main loop every second at most, backfill every second
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,bf_continue,bf_resolution=60,default_queue_depth=1000
PriorityType=priority/multifactor
PriorityWeightAge=100
PriorityWeightQOS=10000
PriorityWeightPartition=100
CompleteWait=0
KillWait=5
MinJobAge=300
MaxJobCount=20000
SlurmctldTimeout=120
SlurmdTimeout=300
MessageTimeout=20
TCPTimeout=5
InactiveLimit=0
Waittime=0
JobRequeue=1
EnforcePartLimits=$ENFORCE_PART_LIMITS
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$DBD_PORT
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_script,job_env,job_comment
JobCompType=jobcomp/none
E
    local i=0 n
    for n in $(nodes); do i=$((i+1)); echo "NodeName=$n NodeHostname=$host NodeAddr=127.0.0.1 Port=$((SLURMD_BASE_PORT+i)) CPUs=$NODE_CPUS RealMemory=$NODE_MEM TmpDisk=0 Features=fake State=UNKNOWN"; done
    local list="nid[001-$(printf %03d "$NODES")]"
    echo "PartitionName=debug Nodes=$list Default=YES MaxTime=01:00:00 DefaultTime=00:10:00 State=UP PriorityJobFactor=10"
    echo "PartitionName=long  Nodes=$list MaxTime=7-00:00:00 DefaultTime=01:00:00 State=UP PriorityJobFactor=1"
  } | put "$ETC/slurm/slurm.conf" 644 root:root
  # Where nothing uses cgroups, slurmd loads a cgroup plugin all the same. Left to detect one ('autodetect'), it refuses
  # to start where nothing is mounted on /sys/fs/cgroup. Since 23.11 there is 'disabled' for that; before, v1 harms nobody.
  # CgroupAutomount is no longer an option since 23.11 (an error in every log). IgnoreSystemd: there is none here.
  { echo "CgroupPlugin=$cgroup"
    if [ "$version" -lt 2311 ]; then echo CgroupAutomount=no; fi
    if [ "$cgroup" != disabled ]; then printf 'ConstrainCores=no\nConstrainRAMSpace=%s\nConstrainSwapSpace=%s\n' $ram $ram; fi
    if [ "$CGROUPS" = v2 ] && [ "$version" -ge 2205 ]; then echo IgnoreSystemd=yes; fi
  } | put "$ETC/slurm/cgroup.conf" 644 root:root
  chown slurm "$LOG"     # the daemons chdir there (core files)
  mkdir -p /etc/slurm
  local f; for f in slurm.conf slurmdbd.conf cgroup.conf; do
    [ "$(readlink "/etc/slurm/$f" 2>/dev/null)" = "$ETC/slurm/$f" ] || { rm -f "/etc/slurm/$f"; ln -s "$ETC/slurm/$f" "/etc/slurm/$f"; }
  done
  put "$ETC/my.cnf" 644 root:root <<E
[mariadbd]
datadir=$STATE/mysql
socket=$RUN/mysql/mysqld.sock
pid-file=$RUN/mysql/mariadbd.pid
log-error=$LOG/mariadb.log
user=mysql
bind-address=127.0.0.1
port=$DB_PORT
skip-name-resolve
character-set-server=utf8mb4
max_allowed_packet=64M
innodb_buffer_pool_size=128M
innodb_log_file_size=64M
# on since MariaDB 11.6; off as a precaution (180 jobs at once went well with it on, too)
loose_innodb_snapshot_isolation=OFF
innodb_lock_wait_timeout=900
# test data: no flush to disk at each commit
innodb_flush_log_at_trx_commit=0
innodb_doublewrite=0
loose_innodb_flush_method=nosync
sync_binlog=0
skip-log-bin
performance_schema=OFF
max_connections=64
E
}

# ---------------------------------------------------------------- pieces
free() { ! port_open "$1" || die "port $1, for $2, is taken by something else. Choose another ($3=...)"; }
start_sshd() {
  pid_of sshd sshd >/dev/null && return 0
  free "$SSH_PORT" sshd SSH_PORT
  mkdir -p -m 755 /run/sshd
  /usr/sbin/sshd -f "$ETC/ssh/sshd_config" -E "$LOG/sshd.log" 9>&- || die "sshd: $(tail -2 "$LOG/sshd.log")"
}
start_munge() {
  pid_of munged munged >/dev/null && [ -S /run/munge/munge.socket.2 ] && return 0
  [ -s /etc/munge/munge.key ] || { install -d -m 700 -o munge -g munge /etc/munge; (umask 077; head -c 128 /dev/urandom > /etc/munge/munge.key); }
  chown munge:munge /etc/munge /etc/munge/munge.key; chmod 600 /etc/munge/munge.key
  install -d -m 755 -o munge -g munge /run/munge
  install -d -m 700 -o munge -g munge /var/log/munge /var/lib/munge
  rm -f /run/munge/munge.socket.2 /run/munge/munge.socket.2.lock
  runuser -u munge -- /usr/sbin/munged --num-threads=4 9>&- || die "munged does not start, see /var/log/munge/munged.log"
  wait_for 10 munged test -S /run/munge/munge.socket.2
  wait_for 10 munged test -s /run/munge/munged.pid
  cp /run/munge/munged.pid "$RUN/munged.pid"
}
sql() { mariadb --defaults-file=/dev/null --no-auto-rehash -u root -S "$RUN/mysql/mysqld.sock" "$@"; }
start_db() {
  pid_of mysql/mariadbd mariadbd >/dev/null && return 0
  install -d -m 755 -o mysql -g mysql "$RUN/mysql"
  : >> "$LOG/mariadb.log"; chown mysql "$LOG/mariadb.log"
  local fresh=
  if [ ! -d "$STATE/mysql/mysql" ]; then
    fresh=1; rm -rf "$STATE/mysql"; install -d -m 750 -o mysql -g mysql "$STATE/mysql"
    # the root account is reached by root through the socket only
    mariadb-install-db --defaults-file="$ETC/my.cnf" --user=mysql --skip-test-db --auth-root-authentication-method=socket > "$LOG/mariadb-install.log" 2>&1 9>&- || die "mariadb-install-db, see $LOG/mariadb-install.log"
    say "database made"
  fi
  free "$DB_PORT" mariadbd DB_PORT
  # (mariadbd has no option to fork away)
  setsid /usr/sbin/mariadbd --defaults-file="$ETC/my.cnf" </dev/null >> "$LOG/mariadb.out" 2>&1 9>&- &
  wait_for 60 mariadbd sql -e 'select 1'
  if [ -n "$fresh" ] || [ ! -e "$STATE/.db" ]; then
    sql -e "create database if not exists slurm_acct_db;
            create or replace user slurm@127.0.0.1 identified by '$(cat "$STATE/db_password")';
            grant all on slurm_acct_db.* to slurm@127.0.0.1;"
    : > "$STATE/.db"
  fi
}
start_slurmdbd() {
  pid_of slurmdbd slurmdbd >/dev/null && return 0
  : >> "$LOG/slurmdbd.log"; chown slurm "$LOG/slurmdbd.log"
  rm -f "$RUN/slurmdbd.pid"
  free "$DBD_PORT" slurmdbd DBD_PORT
  /usr/sbin/slurmdbd 9>&- || { last_words; die "slurmdbd does not start, see $LOG/slurmdbd.log"; }
  wait_for 60 slurmdbd port_open "$DBD_PORT"
}
sm() { sacctmgr -i -Q "$@" >> "$LOG/sacctmgr.log" 2>&1 9>&- || true; }   # -i: no questions; 'already exists' is not an error here
make_accounts() {
  local stamp="$STATE/.accounts.$NUSERS"
  [ -e "$stamp" ] && return 0
  sm add cluster "$CLUSTER_NAME"
  sm add qos high Priority=100 MaxWall=00:30:00 MaxJobsPerUser=5 Description="high priority, short"
  sm add account test  Cluster="$CLUSTER_NAME" Description=test Organization=test
  sm add account other Cluster="$CLUSTER_NAME" Description=other Organization=test
  sm add user "$(users | tr ' \n' ',,' | sed 's/,$//')" Account=test DefaultAccount=test Cluster="$CLUSTER_NAME" QOS=normal,high DefaultQOS=normal
  sm add user fireuser Account=other Cluster="$CLUSTER_NAME" QOS=normal,high DefaultQOS=normal
  local n; n=$(sacctmgr -nP show assoc format=user,account where account=test 2>/dev/null 9>&- | grep -c '^[a-z]' || true)
  [ "$n" = "$(users | wc -w)" ] || die "accounts: $n associations; see $LOG/sacctmgr.log"
  : > "$stamp"; say "accounts made"
}
start_slurmctld() {
  pid_of slurmctld slurmctld >/dev/null && return 0
  install -d -m 755 -o slurm -g slurm "$STATE/slurmctld"
  : >> "$LOG/slurmctld.log"; chown slurm "$LOG/slurmctld.log"
  rm -f "$RUN/slurmctld.pid"
  free "$CTLD_PORT" slurmctld CTLD_PORT
  /usr/sbin/slurmctld $( [ -e "$STATE/slurmctld/clustername" ] || echo -i ) 9>&- || { last_words; die "slurmctld does not start, see $LOG/slurmctld.log"; }
}
start_slurmds() {
  local n i=0
  for n in $(nodes); do
    i=$((i+1))
    pid_of "slurmd.$n" slurmd >/dev/null && continue
    free $((SLURMD_BASE_PORT+i)) "slurmd of $n" SLURMD_BASE_PORT
    install -d -m 755 "$STATE/slurmd.$n"
    rm -f "$RUN/slurmd.$n.pid"
    /usr/sbin/slurmd -N "$n" 9>&- &
  done
}
start_restd() {
  pid_of slurmrestd slurmrestd >/dev/null && return 0
  # must be neither root nor SlurmUser; it does not write a pid file. Where unshare(2) is forbidden (a container's
  # seccomp profile), set SLURMRESTD_SECURITY=disable_unshare_files,disable_unshare_sysv.
  : >> "$LOG/slurmrestd.log"
  free "$RESTD_PORT" slurmrestd RESTD_PORT
  SLURM_JWT=daemon setsid setpriv --reuid=slurmrest --regid=slurmrest --clear-groups /usr/sbin/slurmrestd \
      -a rest_auth/jwt "127.0.0.1:$RESTD_PORT" </dev/null >> "$LOG/slurmrestd.log" 2>&1 9>&- &
  echo $! > "$RUN/slurmrestd.pid"
}
make_reservation() {
  [ -e "$STATE/.reservation" ] && return 0
  # a reservation that takes 2 CPUs of the last node and leaves the rest
  local last; last=$(nodes | tail -1)
  scontrol create reservation ReservationName=testres StartTime=now Duration=365-00:00:00 Users=fireuser,firesrv Nodes="$last" CoreCnt=2 >> "$LOG/sacctmgr.log" 2>&1 || die "reservation, see $LOG/sacctmgr.log"
  : > "$STATE/.reservation"
}
nodes_ready() { [ "$(sinfo -h -N -p debug -o '%N %t' 2>/dev/null | grep -cE ' (idle|mix|alloc|comp|resv|plnd)$')" = "$NODES" ]; }

# ---------------------------------------------------------------- go
install_packages
make_users
# writing the configuration is quick; but with everything up and the same settings there is nothing to do
write_config
[ -z "$CHANGED" ] || say "configuration written"
start_sshd
start_munge
start_db
start_slurmdbd
make_accounts
start_slurmctld
start_slurmds
[ "${1:-}" = --no-restd ] || start_restd
wait_for 30 slurmctld port_open "$CTLD_PORT"
wait_for 30 sshd port_open "$SSH_PORT"
wait_for 60 "the nodes" nodes_ready
make_reservation
[ "${1:-}" = --no-restd ] || wait_for 20 slurmrestd port_open "$RESTD_PORT"
say "up: ssh 127.0.0.1:$SSH_PORT  slurmrestd 127.0.0.1:$RESTD_PORT  $(sinfo -h -o '%P %D %t' | tr '\n' ';')"
