"""Parts of bash scripts that make files beside their target and rename them, and names of temporary files. No I/O.

A script works in a directory of its own, on the file system of its target. What a killed script leaves there is removed
later, by its age, by the next script that works in that folder.
"""

from __future__ import annotations

from typing import Final

TEMPORARY_DAYS: Final = 8  # age of a directory that no script can still work in; batch jobs may run for days

_HEX: Final = "[0-9a-f]"
_ANY: Final = "[A-Za-z0-9]" * 10

# Shell patterns of the names of all temporary files and directories, of uploads too. Archives don't contain them.
TEMPORARY_NAMES: Final = (
    ".flamecrest-upload-" + _HEX * 16,
    ".flamecrest-upload-" + _HEX * 32 + "*",
    ".flamecrest-unpack-" + _HEX * 16,
    *(f".f7t_{what}_{_ANY}" for what in ("copy", "extract", "archive")),
)

# Functions of a script that sets `work` to the directory it works in.
# - Programs that take long run in the background with `wait`: only then does bash run its trap immediately.
# - The directory has its name before it is made: mktemp can be killed after it has made one and before it says so.
# - `timeout` sends TERM twice: the second one would end the cleanup in the trap, so it is ignored.
# - The cleanup is a process in a session of its own, started before the directory is made. It reads a pipe that the
#   script and its programs hold open: it begins when the last of them has ended, even if all of them are killed. A line
#   in the pipe tells it that the directory is not the script's.
# - Others who may write to a folder can give the name of a temporary directory to any directory of the user. So its
#   mode and its entries count as well, and only those entries are removed.
# - `merge` moves files and new folders; folders that exist on both sides stay, empty. A file is replaced by a rename.
#   Nothing is moved if a folder would replace something else, or be replaced; links to folders are no folders here.
#   The shell looks at folders only, as there may be very many files.
# - `disown` says and returns an error if the sweep has ended already; `wait` of the guardian, if the `wait` before has
#   collected it.
# - To move a folder needs write permission on it: `unlock` gives it, `relock` restores the modes, deepest first.
BESIDE: Final = r"""set -u +o posix
export LC_ALL=C
unset TAR_OPTIONS CDPATH POSIXLY_CORRECT
shopt -s dotglob nullglob
alone=$(command -v setsid)
guard= guardian=
watch() {
    trap '' TERM HUP INT PIPE
    exec {guard}> >(exec $alone bash -c 'read -r _ && exit
    rm -rf -- "$1" || {
        find "$1" -type d -exec chmod u+rwx -- {} \;
        rm -rf -- "$1"
    }' bash "$work" >/dev/null 2>&1)
    guardian=$!
    trap 'trap "" TERM HUP INT PIPE; exit 143' TERM HUP INT PIPE
}
clean() {
    kill $(jobs -p) 2>/dev/null
    [ -z "$guard" ] || exec {guard}>&-
    wait
    [ -z "$guard" ] || wait "$guardian" 2>/dev/null
}
sweeper=$(cat <<'END'
shopt -s dotglob nullglob
for one; do
    [ -d "$one" ] || rm -f -- "$one"
    (
        cd -P -- "$one" && [ -O . ] && [ -z "$(find . -maxdepth 0 -perm /077)" ] || exit
        for name in *; do
            case $name in new | list | modes) ;; *) exit 1 ;; esac
        done
        rm -rf new list modes
    ) && rmdir -- "$one"
done
END
)
sweep() {
    (
        [ -z "$guard" ] || exec {guard}>&-
        exec $alone timeout 60 find "$1/" -maxdepth 1 -name '.f7t_*' -regextype posix-extended \
            -regex '.*/\.f7t_(copy|extract|archive)_[A-Za-z0-9]{10}(\.list)?' \
            -user "$EUID" -type f,d -mtime +DAYS -exec bash -c "$sweeper" bash {} +
    ) </dev/null >/dev/null 2>&1 &
    disown "$!" 2>/dev/null || :
}
trap clean EXIT
trap 'trap "" TERM HUP INT PIPE; exit 143' TERM HUP INT PIPE
run() {
    "$@" &
    wait "$!"
}
is_folder() { [ -d "$1" ] && [ ! -L "$1" ]; }
exists() { [ -e "$1" ] || [ -L "$1" ]; }
work_in() {
    local word= error chars=abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789
    while [ "${#word}" -lt 10 ]; do word+=${chars:RANDOM % 62:1}; done
    work=$1/.f7t_$2_$word
    watch
    error=$(mkdir -m 700 -- "$work" 2>&1) && return
    [ $? -gt 128 ] || echo >&"$guard"
    fail "${error##*: }"
}
check() {
    local one there
    for one in "$1"/*/; do
        one=${one%/} there=$2/${one##*/}
        if is_folder "$one" && is_folder "$there"; then
            check "$one" "$there"
        elif is_folder "$one" && exists "$there"; then
            fail "$there: Not a directory"
        fi
    done
    for there in "$2"/*/; do
        there=${there%/} one=$1/${there##*/}
        if is_folder "$there" && exists "$one" && ! is_folder "$one"; then fail "$there: Is a directory"; fi
    done
}
move() {
    local one there list=()
    find "$1" -mindepth 1 -maxdepth 1 ! -type d -exec mv -f -t "$2" -- {} + || return
    for one in "$1"/*/; do
        one=${one%/} there=$2/${one##*/}
        if [ -L "$one" ]; then
            continue
        elif is_folder "$there"; then
            move "$one" "$there" || return
        else
            list+=("$one")
        fi
    done
    [ "${#list[@]}" = 0 ] || printf '%s\0' "${list[@]}" | xargs -0 mv -f -t "$2" --
}
unlock() {
    find "$1" -type d ! -perm -700 -printf '%m\0%P\0' -exec chmod u+rwx -- {} \; >"$work/modes"
}
relock() {
    local mode name at modes=()
    while IFS= read -r -d '' mode && IFS= read -r -d '' name; do modes+=("$mode" "$name"); done <"$work/modes"
    for ((at = ${#modes[@]} - 2; at >= 0; at -= 2)); do
        if [ -n "${3-}" ] || ! [ -d "$1/${modes[at + 1]}" ]; then
            chmod "${modes[at]}" -- "$2/${modes[at + 1]}" || return
        fi
    done
}
merge() {
    unlock "$1" && check "$1" "$2" && move "$1" "$2"
}
put_new() {
    local mode= status=0
    if is_folder "$1" && [ ! -w "$1" ]; then
        mode=$(stat -c %a -- "$1") && chmod u+w -- "$1" || return
    fi
    mv "$3" -T -- "$1" "$2" || status=$?
    [ "$status" = 0 ] || return "$status"
    if exists "$1"; then return 1; fi
    [ -z "$mode" ] || chmod "$mode" -- "$2"
}
""".replace("DAYS", str(TEMPORARY_DAYS))

# A function that gives a file the place of another, as uploads do (docs/users/files/replacing.md): by a rename if it
# can have the same owner, group, mode, ACL and attributes, and there is no other link; else its content is written into
# the other. What is longer than the old content comes first: on a full disk that can be taken back.
REPLACE: Final = r"""
like() {
    local mode
    [ "$(stat -c '%u %h' -- "$2")" = "$EUID 1" ] && [ "${1%/*/*}" = "${2%/*}" ] || return
    mode=$((8#$(stat -c %a -- "$2") & ~8#4000))
    [ $((mode & 8#10)) = 0 ] || mode=$((mode & ~8#2000))
    cp --attributes-only --preserve=mode,ownership,xattr -- "$2" "$1" 2>/dev/null || return
    chmod "$(printf %o "$mode")" -- "$1" || return
    [ "$(stat -c '%g %a' -- "$1")" = "$(stat -c %g -- "$2") $(printf %o "$mode")" ]
}
replace() {
    local new old
    if [ -e "$2" ] && ! like "$1" "$2"; then
        old=$(stat -c %s -- "$2") new=$(stat -c %s -- "$1") || return
        set -- "$1" "$2" status=none bs=1M conv=notrunc
        if [ "$new" -gt "$old" ]; then
            run dd if="$1" of="$2" "${@:3}" iflag=skip_bytes oflag=seek_bytes skip="$old" seek="$old" || {
                truncate -s "$old" -- "$2"
                return 1
            }
        fi
        run dd if="$1" of="$2" "${@:3}" iflag=count_bytes count="$((new < old ? new : old))" || return
        truncate -s "$new" -- "$2" && run sync -- "$2"
        return
    fi
    mv -T -- "$1" "$2"
}
"""
