#!/bin/bash
# Builds helm, once for a machine: the first time takes minutes, then nothing. Needs Go (go or GO).
set -euo pipefail
export GOBIN=${FLAMECREST_GO:-/var/cache/flamecrest-go}/bin GOFLAGS=-trimpath
[ ! -x "$GOBIN/helm" ] || exit 0
go=${GO:-$(command -v go)} || { echo "helm.sh: there is no Go: the tests of the Helm chart are left out" >&2; exit 0; }
mkdir -p "$GOBIN"
cd "$GOBIN" && nice -n 10 "$go" install helm.sh/helm/v3/cmd/helm@v3.22.0
