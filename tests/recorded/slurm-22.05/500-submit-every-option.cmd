bash -c 'run=$(type -P -- "$1") || { printf "%s: command not found\n" "$1" >&2; exit 127; }; shift; set -- "$run" "$@"; unset LC_ALL run; while IFS= read -r -d "" FLAMECREST_ENTRY && [ -n "$FLAMECREST_ENTRY" ]; do export "$FLAMECREST_ENTRY"; done; unset FLAMECREST_ENTRY; exec "$@"' flamecrest sbatch --parsable --chdir=/home/fireuser '--job-name=my "job" | é' --account=test --partition=debug --constraint=fake --input=/dev/null '--output=/home/fireuser/o %j.txt' '--error=/home/fireuser/e %x.txt' --export=ALL
# run as fireuser over ssh
# exit status 0
# 0.018 s (connection already open)
# standard input: 'GREETING=it\'s\n"x", `y` = \u6f22\u5b57\x00EMPTY=\x00\x00#!/bin/bash\necho "$GREETING"\nsleep 8\n'
