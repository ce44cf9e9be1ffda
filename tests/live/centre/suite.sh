# Sourced by up.sh, down.sh and status.sh when SUITE is set: a Debian of another suite in a chroot at $ROOT, and how to go in.
# The network, the pids and the clock are the host's; the files, the users, munge's key and /etc are the chroot's own.

# enter COMMAND...: runs it inside, with the settings and nothing else of the caller's environment
enter() {
  local v pass=()
  for v in SUITE SSH_PORT RESTD_PORT CTLD_PORT DBD_PORT DB_PORT SLURMD_BASE_PORT NODES NODE_CPUS NODE_MEM NUSERS FIRST_UID \
           CLUSTER_NAME ENFORCE_PART_LIMITS CGROUPS; do pass+=("$v=${!v}"); done
  case $JWKS_FILE in "$ROOT"/*) pass+=("JWKS_FILE=${JWKS_FILE#"$ROOT"}");; esac
  for v in http_proxy https_proxy no_proxy SLURMRESTD_SECURITY; do [ -z "${!v:-}" ] || pass+=("$v=${!v}"); done
  chroot "$ROOT" /usr/bin/env -i INSIDE=1 HOME=/root TERM="${TERM:-dumb}" PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive "${pass[@]}" "$@"
}

mirror() {  # the first address of Debian's own archive that apt uses here
  if [ -n "$MIRROR" ]; then echo "$MIRROR"; return; fi
  { sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources | tr ' ' '\n'
    sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+) .*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list
    true; } 2>/dev/null | grep -E '/debian/?$' | head -1
}

mounts() { awk -v r="$(readlink -f "$ROOT")/" 'index($5 "/", r) == 1 {print $5}' /proc/self/mountinfo; }   # what is mounted at or below the chroot

make_chroot() {
  [ ! -e "$ROOT/.made" ] || return 0
  local m part=$ROOT.part log=$ROOT.log rc=0
  [ -z "$(mounts)" ] || die "$ROOT is half made and has mounts: $(mounts | tr '\n' ' '); run down.sh first"
  command -v debootstrap >/dev/null || {
    say "installing debootstrap"
    apt-get install -y -q -o DPkg::Lock::Timeout=300 --no-install-recommends debootstrap > "$log" 2>&1 || { apt-get update -q && apt-get install -y -q -o DPkg::Lock::Timeout=300 --no-install-recommends debootstrap; } >> "$log" 2>&1 ||
      { tail -5 "$log"; die "debootstrap is not here and cannot be installed, see $log"; }
  }
  m=$(mirror); [ -n "$m" ] || die "no address of a Debian archive in apt's sources: set MIRROR"
  say "debootstrap $SUITE from $m into $ROOT"
  rm -rf --one-file-system "$part" "$ROOT"
  debootstrap --variant=minbase --components=main "$SUITE" "$part" "$m" > "$log" 2>&1 || rc=$?
  [ $rc = 0 ] || { tail -5 "$log"; tail -5 "$part/debootstrap/debootstrap.log" 2>/dev/null || true; die "debootstrap of $SUITE from $m (status $rc), see $log. Is the suite on that mirror (MIRROR=...), and is /usr/share/keyrings/debian-archive-keyring.gpg new enough to know its key?"; }
  printf '#!/bin/sh\nexit 101\n' > "$part/usr/sbin/policy-rc.d"; chmod 755 "$part/usr/sbin/policy-rc.d"    # no postinst starts a service
  # a mirror may be weeks old, or this clock wrong
  printf 'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\nAcquire::Languages "none";\n' > "$part/etc/apt/apt.conf.d/99centre"
  apt-config dump 2>/dev/null | grep -iE '^Acquire::https?::(Proxy|[^ ]*::Proxy) ' >> "$part/etc/apt/apt.conf.d/99centre" || true
  # no manuals and translations: a third of the size, and quicker
  printf 'path-exclude=/usr/share/man/*\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/locale/*\nforce-unsafe-io\n' > "$part/etc/dpkg/dpkg.cfg.d/99centre"
  rm -rf "$part"/usr/share/{man,doc,locale}/* "$part"/var/cache/apt/archives/*.deb "$part/var/log/bootstrap.log"
  : > "$part/.made"
  mv "$part" "$ROOT"; say "chroot made"
}

prepare_chroot() {  # every time: what follows the host
  printf '127.0.0.1 localhost %s\n' "$(uname -n)" > "$ROOT/etc/hosts"
  [ ! -r /etc/resolv.conf ] || cat /etc/resolv.conf > "$ROOT/etc/resolv.conf"
  local m
  for m in proc sys dev; do
    ! mountpoint -q "$ROOT/$m" || continue
    case $m in
      proc) mount -t proc -o nosuid,nodev,noexec proc "$ROOT/proc" ;;
      *)    mount --rbind "/$m" "$ROOT/$m" && mount --make-rslave "$ROOT/$m" ;;   # rslave: unmounting here leaves the host's alone
    esac || die "cannot mount $ROOT/$m: in a container, this needs CAP_SYS_ADMIN"
  done
  mkdir -p "$ROOT/centre/scripts"
  cp "$HERE"/{env,up,down,status,sign}.sh "$ROOT/centre/scripts/"
}

# every process that lives in the chroot, by what its root folder is; not the ones that merely stand in it
inhabitants() { local p; for p in /proc/[0-9]*; do [ "$p/root" -ef "$ROOT" ] 2>/dev/null && ! [ "$ROOT" -ef / ] && echo "${p#/proc/}"; done; true; }

leave_chroot() {  # ends what is left inside (shells, jobs of killed daemons), by pid, and unmounts
  local p m i
  for i in TERM KILL; do
    p=$(inhabitants); [ -n "$p" ] || break
    kill -$i $p 2>/dev/null; for _ in {1..40}; do [ -n "$(inhabitants)" ] || break; sleep 0.05; done
  done
  for m in sys dev proc; do
    mountpoint -q "$ROOT/$m" || continue
    umount -R "$ROOT/$m" 2>/dev/null || umount -R -l "$ROOT/$m" || echo "down: $ROOT/$m does not unmount"
  done
}
