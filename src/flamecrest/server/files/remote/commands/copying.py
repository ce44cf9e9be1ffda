"""A bash script that copies files on the cluster with cp.

The copy is written beside its target and renamed, so that it appears complete or not at all. Into an existing directory
it is merged, file by file: each one is replaced by a rename, and nothing is written through a link.
"""

from __future__ import annotations

from typing import Final

from flamecrest.server.files.remote.commands import command_errors
from flamecrest.server.files.remote.commands.archive import Script
from flamecrest.server.files.remote.commands.beside import BESIDE
from flamecrest.server.ssh.command import Command

# Arguments: source, target, "yes" to overwrite, "yes" to follow links, "yes" to copy into a target that is a directory.
# mv -n does not report that it did nothing (before coreutils 9.2); then the copy still exists.
_COPY: Final = rf"""{BESIDE}
source=$1 target=$2 overwrite=$3 follow=$4 slash= folder=
while [ "$target" != / ] && [ "${{target%/}}" != "$target" ]; do target=${{target%/}} slash=yes; done
if [ -n "$5" ] && [ -d "$target" ]; then
    name=$(basename -- "$source" && echo .) || exit
    name=${{name%$'\n.'}} slash=
    case $name in . | .. | /) ;; *) target=${{target%/}}/$name ;; esac
fi
case $target in */*) ;; *) target=./$target ;; esac
fail() {{
    printf "cp: cannot copy '%s' to '%s': %s\n" "$source" "$target" "$1" >&2
    exit 1
}}
copy_to() {{
    run cp -a --reflink=auto ${{follow:+-L}} -T -- "$source" "$1"
}}
stat -- "$source" >/dev/null || exit
if [ -d "$source" ] && {{ [ -n "$follow" ] || [ ! -L "$source" ]; }}; then folder=yes; fi
[ -n "$folder" ] || [ -z "$slash" ] || fail 'Not a directory'
if exists "$target"; then
    [ -n "$overwrite" ] || fail 'File exists'
    [ ! "$source" -ef "$target" ] || fail 'Invalid argument'
    if is_folder "$target"; then
        [ -n "$folder" ] || fail 'Is a directory'
        work_in "$target" copy
        copy_to "$work/new" || exit
        merge "$work/new" "$target" || exit
        run cp -a --attributes-only -T -- "$work/new" "$target" || exit
        relock "$work/new" "$target" all || exit
        sweep "$target"
        exit
    fi
    [ -z "$folder" ] || fail 'Not a directory'
fi
work_in "${{target%/*}}" copy
copy_to "$work/new" || exit
if [ -n "$overwrite" ]; then
    put_new "$work/new" "$target" -f || exit
else
    put_new "$work/new" "$target" -n || [ $? -lt 126 ] || exit 127
    if exists "$work/new"; then fail 'File exists'; fi
fi
sweep "${{target%/*}}"
"""


def copy_script(source: str, target: str, *, overwrite: bool, dereference: bool, into: bool = False) -> Script:
    """Copy a file, a link (with `dereference` its target) or a tree, with all attributes.

    With `into` a target that is a directory gets the copy under the source's name, as cp(1) has it.
    """
    options = ("yes" if option else "" for option in (overwrite, dereference, into))
    return Script(_COPY, (source, target, *options))


def copy(source: str, target: str, *, overwrite: bool, dereference: bool) -> Command[None]:
    """Return the command that runs the script."""
    script = copy_script(source, target, overwrite=overwrite, dereference=dereference)
    return Command(script.argv, command_errors.check_success)
