"""A bash script that copies files on the cluster with cp.

The copy is written beside its target and renamed, so that it appears complete or not at all. Only a directory is
merged in place into an existing one, as no rename can do that.
"""

from __future__ import annotations

from typing import Final

from flamecrest.server.files.remote.commands import command_errors
from flamecrest.server.files.remote.commands.archive import Script
from flamecrest.server.ssh.command import Command

# Arguments: source, target, "yes" to overwrite, "yes" to follow links.
# - cp runs in the background with `wait`: only then does bash run its trap immediately on a signal.
# - `timeout` sends TERM twice: the second one would end the cleanup in the trap, so it is ignored.
# - mv -n does not report that it did nothing (before coreutils 9.2); then the copy still exists.
_COPY: Final = r"""set -u
export LC_ALL=C
source=$1 target=$2 overwrite=$3 follow=$4 copy=
while [ "$target" != / ] && [ "${target%/}" != "$target" ]; do target=${target%/}; done
trap 'kill $(jobs -p) 2>/dev/null; wait; [ -z "$copy" ] || rm -rf -- "$copy"' EXIT
trap 'trap "" TERM HUP INT PIPE; exit 143' TERM HUP INT PIPE
copy_to() {
    cp -a --reflink=auto ${follow:+-L} -T -- "$source" "$1" &
    wait "$!"
}
fail() { printf "cp: cannot copy '%s' to '%s': %s\n" "$source" "$target" "$1" >&2; exit 1; }
stat -- "$source" >/dev/null || exit
if [ -e "$target" ] || [ -L "$target" ]; then
    [ -n "$overwrite" ] || fail 'File exists'
    [ ! "$source" -ef "$target" ] || fail 'Invalid argument'
    if [ -d "$target" ] && [ ! -L "$target" ]; then
        [ -d "$source" ] && { [ -n "$follow" ] || [ ! -L "$source" ]; } || fail 'Is a directory'
        copy_to "$target"
        exit
    fi
    if [ -d "$source" ] && { [ -n "$follow" ] || [ ! -L "$source" ]; }; then fail 'Not a directory'; fi
fi
folder=${target%/*}/
copy=$(mktemp -u -- "${folder}.f7t_copy_XXXXXXXXXX") || exit
copy_to "$copy" || exit
if [ -n "$overwrite" ]; then
    mv -fT -- "$copy" "$target" || exit
else
    mv -nT -- "$copy" "$target" || [ $? -lt 126 ] || exit 127
    if [ -e "$copy" ] || [ -L "$copy" ]; then fail 'File exists'; fi
fi
copy=
"""


def copy(source: str, target: str, *, overwrite: bool, dereference: bool) -> Command[None]:
    """Copy a file, a link (with `dereference` its target) or a tree, with all attributes."""
    script = Script(_COPY, (source, target, "yes" if overwrite else "", "yes" if dereference else ""))
    return Command(script.argv, command_errors.check_success)
