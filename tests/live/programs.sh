#!/bin/bash
# Installs the programs that live tests start, each only where it is missing: a machine may have one from elsewhere,
# with which Debian's package conflicts.
set -euo pipefail
packages=(
  javac:default-jdk-headless     # wire
  wormhole:magic-wormhole        # on the nodes
  redis-server:redis-server      # replicas
  haproxy:haproxy nginx:nginx-light nginx:libnginx-mod-http-js  # proxies
  mvn:maven npm:npm              # issuers
  promtool:prometheus            # metrics
  ip:iproute2                    # reliability
  faketime:faketime              # reliability
)
missing=()
for one in "${packages[@]}"; do
  type "${one%:*}" > /dev/null 2>&1 || missing+=("${one#*:}")
done
[ ${#missing[@]} = 0 ] || apt-get -qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends install "${missing[@]}"
