"""A bash script that moves files on the cluster, by a rename where that is possible.

mv(1) copies to another file system in place: killed, it leaves half a target. Here the copy is made beside the target
and renamed, and then the source is removed: the target is absent, the old one, or the whole new one.
"""

from __future__ import annotations

from typing import Final

from flamecrest.server.files.remote.commands.archive import Script
from flamecrest.server.files.remote.commands.beside import BESIDE

# Arguments: source, target; into a target that is a directory, as mv(1) has it.
# - Whether a rename is possible is tried with an empty directory: a bind mount, an overlay or a project quota can
#   forbid it on one file system. mv has copied if the directory is another one afterwards.
# - The copy is synced before the source is removed: a node that dies must not take both with it.
# - The directories of the source that may not be changed are given that right when the source is only to be removed.
# - `beneath` is the directory that the source is in; removing the source needs the right to write there.
_MOVE: Final = rf"""{BESIDE}
source=$1 target=$2 slash=
fail() {{
    printf "mv: cannot move '%s' to '%s': %s\n" "$source" "$final" "$1" >&2
    exit 1
}}
rename() {{
    run mv -- "$1" "$2"
    exit
}}
parent() {{
    case $1 in
    /*/*) REPLY=${{1%/*}} ;;
    /*) REPLY=/ ;;
    */*) REPLY=./${{1%/*}} ;;
    *) REPLY=. ;;
    esac
}}
can_rename() {{
    local probe=$1/${{work##*/}} first
    mkdir -m 700 -- "$probe" 2>/dev/null || fail 'Permission denied'
    first=$(stat -c %d:%i -- "$probe") && mv -T -- "$probe" "$work/new" 2>/dev/null || {{
        rmdir -- "$probe" 2>/dev/null
        return 1
    }}
    [ "$first" = "$(stat -c %d:%i -- "$work/new")" ] && first=
    rmdir -- "$work/new"
    [ -z "$first" ]
}}
while [ "$source" != / ] && [ "${{source%/}}" != "$source" ]; do source=${{source%/}} slash=yes; done
exists "$source" || rename "$1" "$2"
name=$(basename -- "$source" && echo .) || exit
name=${{name%$'\n.'}} final=$target
case $name in . | .. | /) fail 'Device or resource busy' ;; esac
while [ "$final" != / ] && [ "${{final%/}}" != "$final" ]; do final=${{final%/}}; done
if [ -d "$target" ]; then final=${{final%/}}/$name; fi
parent "$source" && beneath=$REPLY && parent "$final" && above=$REPLY
if [ ! -d "$above" ] || [ "$beneath" -ef "$above" ] || {{ [ -n "$slash" ] && ! is_folder "$source"; }}; then
    rename "$1" "$2"
fi
work_in "$above" copy
if [ "$(stat -c %d -- "$beneath")" = "$(stat -c %d -- "$above")" ] && can_rename "$beneath"; then
    rmdir -- "$work"
    rename "$1" "$2"
fi
[ -w "$beneath" ] || fail 'Permission denied'
[ ! "$source" -ef "$final" ] || fail 'they are the same file'
if is_folder "$source"; then
    if exists "$final" && ! is_folder "$final"; then fail 'Not a directory'; fi
    if is_folder "$final" && [ -n "$(find "$final/" -mindepth 1 -print -quit)" ]; then fail 'Directory not empty'; fi
elif is_folder "$final"; then
    fail 'Is a directory'
fi
run cp -a --reflink=auto -T -- "$source" "$work/new" || exit
run sync -f -- "$work" || exit
put_new "$work/new" "$final" -f || exit
run rm -rf -- "$source" 2>/dev/null || {{
    find "$source" -type d ! -perm -700 -exec chmod u+rwx -- {{}} \; 2>/dev/null
    run rm -rf -- "$source" || exit
}}
sweep "$above"
"""


def move_script(source: str, target: str) -> Script:
    """Move a file, a link or a tree, with all attributes; under its own name into a target that is a directory."""
    return Script(_MOVE, (source, target))
