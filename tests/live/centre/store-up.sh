#!/bin/bash
# Starts an S3 object store on loopback: radosgw of Ceph over one monitor and one OSD in memory, as root, without systemd.
# Objects are lost at the end. Does nothing if it is up. store-up.sh [DIR [PORT [ADDRESS]]]
set -euo pipefail
dir=${1:-/tmp/flamecrest-store} port=${2:-9004} address=${3:-127.0.0.1} name=$(uname -n)
up() { [ -r "$dir/run/$1.pid" ] && [ -d "/proc/$(cat "$dir/run/$1.pid")" ]; }
answers() { (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; }
if up mon.a && up osd.0 && up client.rgw && answers; then exit; fi
packages=()
for one in radosgw ceph-mon ceph-osd ceph-authtool/ceph-common; do type "${one%/*}" > /dev/null 2>&1 || packages+=("${one#*/}"); done
if [ ${#packages[@]} -gt 0 ]; then
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends install "${packages[@]}" > /dev/null
fi
"$(dirname "${BASH_SOURCE[0]}")/store-down.sh" "$dir"
mkdir -p "$dir"/{mon,osd,rgw,run,log}
export CEPH_CONF=$dir/ceph.conf CEPH_ARGS="--conf $dir/ceph.conf"
cluster=$(cat /proc/sys/kernel/random/uuid)
cat > "$CEPH_CONF" << END
[global]
fsid = $cluster
mon host = [v2:127.0.0.1:$((port + 1)),v1:127.0.0.1:$((port + 2))]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth allow insecure global id reclaim = false
mon allow pool size one = true
mon max pg per osd = 1000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
run dir = $dir/run
crash dir = $dir/run
log file = $dir/log/\$name.log
admin socket = $dir/run/\$name.asok
pid file = $dir/run/\$name.pid
keyring = $dir/keyring
[mon.a]
host = $name
mon data = $dir/mon
[osd.0]
host = $name
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 8589934592
osd class load list = *
[client.rgw]
rgw data = $dir/rgw
rgw frontends = beast endpoint=$address:$port
rgw dns name = localhost
rgw thread pool size = 64
rgw enable usage log = false
END
key() { ceph-authtool "$dir/keyring" --gen-key -n "$1" --cap mon 'allow *' "${@:2}" > /dev/null; }
ceph-authtool --create-keyring "$dir/keyring" > /dev/null
key mon.
key client.admin --cap osd 'allow *' --cap mgr 'allow *'
key client.rgw --cap osd 'allow *'
key osd.0 --cap osd 'allow *'
monmaptool --create --addv a "[v2:127.0.0.1:$((port + 1)),v1:127.0.0.1:$((port + 2))]" --fsid "$cluster" "$dir/monmap" > /dev/null
ceph-mon --mkfs -i a --monmap "$dir/monmap" --keyring "$dir/keyring"
ceph-mon -i a
uuid=$(cat /proc/sys/kernel/random/uuid)
ceph osd new "$uuid" 0 > /dev/null 2>&1
ceph-osd -i 0 --mkfs --osd-uuid "$uuid" > /dev/null 2>&1
ceph-osd -i 0 > /dev/null 2>&1
ceph osd crush add osd.0 1.0 root=default host="$name" > /dev/null 2>&1
setsid radosgw -n client.rgw --keyring "$dir/keyring" > "$dir/log/rgw.out" 2>&1 < /dev/null
for _ in $(seq 600); do ! answers || break; sleep 0.1; done
answers || { echo "store-up: radosgw does not answer on port $port: see $dir/log" >&2; exit 1; }
user() { radosgw-admin -n client.rgw user create "$@" > /dev/null 2>&1; }
user --uid=flamecrest --display-name=flamecrest --access-key=live-key --secret=live-secret --max-buckets=0
user --uid=full --display-name=full --access-key=full-key --secret=full-secret --max-buckets=0
quota() { radosgw-admin -n client.rgw quota "$@" --quota-scope=user --uid=full > /dev/null 2>&1; }
quota set --max-size=4M
quota enable
user --uid=other --display-name=other --access-key=other-key --secret=other-secret
user --uid='hpc$flamecrest' --display-name=tenant --access-key=tenant-key --secret=tenant-secret --max-buckets=0
