bash -c 'run=$(type -P -- "$1") || { printf "%s: command not found\n" "$1" >&2; exit 127; }; shift; set -- "$run" "$@"; unset LC_ALL run; while IFS= read -r -d "" FLAMECREST_ENTRY && [ -n "$FLAMECREST_ENTRY" ]; do export "$FLAMECREST_ENTRY"; done; unset FLAMECREST_ENTRY; exec "$@"' flamecrest sbatch --parsable --chdir=/home/fireuser -- /nosuch.sh
# run as fireuser over ssh
# exit status 1
# 0.017 s (connection already open)
# standard input: '\x00'
