#!/bin/bash
# Builds the OpenFGA server, once for a machine: the first time takes minutes, then nothing. Needs Go (go or GO).
set -euo pipefail
export GOBIN=${FLAMECREST_GO:-/var/cache/flamecrest-go}/bin GOFLAGS=-trimpath
[ ! -x "$GOBIN/openfga" ] || exit 0
go=${GO:-$(command -v go)} || { echo "openfga.sh: there is no Go: the tests with OpenFGA are left out" >&2; exit 0; }
mkdir -p "$GOBIN"
cd "$GOBIN" && nice -n 10 "$go" install github.com/openfga/openfga/cmd/openfga@v1.22.1
