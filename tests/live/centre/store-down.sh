#!/bin/bash
# Stops what store-up.sh started, by pid, and removes its files. store-down.sh [DIR]
dir=${1:-/tmp/flamecrest-store}
for name in client.rgw osd.0 mon.a; do
  pid=$(cat "$dir/run/$name.pid" 2> /dev/null) || continue
  case $(cat "/proc/$pid/comm" 2> /dev/null) in radosgw | ceph-osd | ceph-mon) kill "$pid" ;; *) continue ;; esac
  for _ in $(seq 100); do grep -qv '^State:.Z' "/proc/$pid/status" 2> /dev/null || break; [ -d "/proc/$pid" ] || break; sleep 0.1; done
done
rm -rf "$dir"
