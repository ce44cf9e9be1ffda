"""Bash scripts that pack and unpack with tar, beside their targets. They run over SSH and in batch jobs.

The text of a script is constant; values of a request are its positional arguments, so that names and patterns are
never parsed as shell code. The cluster must have GNU tar, findutils and coreutils.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Conflict, GatewayError, Invalid, NotFound, Upstream
from flamecrest.server.files.remote.commands.beside import BESIDE, REPLACE, TEMPORARY_NAMES
from flamecrest.server.files.remote.errors import reason_kind
from flamecrest.server.files.values import DEFAULT_COMPRESSION, Compression, CompressOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flamecrest.server.ssh.command import Output

NOTHING_MATCHED: Final = 65  # exit status of a compress script whose pattern matched no file (EX_DATAERR)

# Without --sparse tar writes holes as zeros. With it, however, tar takes any file without blocks for one hole: also
# small files that are stored with their inode (GPFS, btrfs), and files that were migrated to tape. So the option is
# used only if there is a hole of at least 1 MiB and no such small file, and if every large file without blocks reads
# as zeros.
_HOLES: Final = r"""holes() {
    local inline empty hole size blocks path
    read -r inline empty hole < <(exec 2>/dev/null
        find ${follow:+-L} "./$name" -type f -size +1 -printf '%s %b\n' | awk '
        $2 == 0 && $1 < 1048576 { inline = 1 }
        $2 == 0 { empty = 1 }
        $2 != 0 && $1 - 512 * $2 >= 1048576 { hole = 1 }
        END { print inline + 0, empty + 0, hole + 0 }')
    [ "$inline" = 0 ] && [ "$empty$hole" != 00 ] || return
    [ "$empty" = 1 ] || return 0
    while IFS=' ' read -r -d '' size blocks path; do
        [ "$blocks" != 0 ] || cmp -s -n "$size" -- "$path" /dev/zero || return
    done < <(find ${follow:+-L} "./$name" -type f -size +2047 -printf '%s %b %p\0' 2>/dev/null)
}"""

_FILTERS: Final[Mapping[Compression, str]] = {
    "none": "",
    "gzip": "--gzip",
    "bzip2": "--bzip2",
    "xz": "--xz",
}

_EXCLUDES: Final = " ".join(f"--exclude='{name}'" for name in TEMPORARY_NAMES)

# Arguments: folder and name of the source, target, tar's compression option, "yes" to follow links, pattern.
# - Names are given as `./name`, so that none looks like an option; the transform removes the `./`.
# - Without --no-unquote tar reads `a\tb` as a name with a tab in it.
# - The list is a file instead of a pipe, so that a failure of find and an empty list are detected.
# - An older archive below the source is not packed into the new one, and neither are temporary files.
# - A folder that takes no new file is no obstacle to a file that is there and can be written.
_COMPRESS: Final = rf"""{BESIDE}{REPLACE}
folder=$1 name=$2 target=$3 filter=$4 follow=$5 pattern=$6
fail() {{
    printf '%s: %s\n' "$target" "$1" >&2
    exit 1
}}
stat -- "$folder/$name" >/dev/null || exit
target=$(readlink -fv -- "$target" && echo .) || exit
target=${{target%$'\n.'}}
cd -P -- "$folder" || exit
[ ! -d "$target" ] || fail 'Is a directory'
[ ! -e "$target" ] || [ -f "$target" ] || fail 'Not a regular file'
[ ! "$folder/$name" -ef "$target" ] || fail 'the archive and its source are the same file'
[ ! -e "$target" ] || [ -w "$target" ] || fail 'Permission denied'
place=${{target%/*}}
if [ -e "$target" ] && [ ! -w "${{place:-/}}" ]; then place=$HOME; fi
work_in "$place" archive
options=(--create --file="$work/new" --force-local --no-unquote --transform='s,^\./,,S')
options+=({_EXCLUDES} ${{filter:+"$filter"}} ${{follow:+--dereference}})
{_HOLES}
if holes; then options+=(--sparse); fi
if [ -n "$pattern" ]; then
    conditions=(-type f -regex "$pattern" ! -path '*/.f7t_archive_??????????/*')
    if [ -e "$target" ]; then conditions+=(! -samefile "$target"); fi
    find ${{follow:+-L}} "./$name" "${{conditions[@]}}" -print0 >"$work/list" || exit
    if [ ! -s "$work/list" ]; then
        printf 'No file below %s matches the pattern\n' "$folder/$name" >&2
        exit 65
    fi
    run tar "${{options[@]}}" --null --files-from="$work/list" || exit
else
    case $target in
    "${{PWD%/}}/$name"/*) options+=(--anchored --no-wildcards --exclude="./${{target#"${{PWD%/}}/"}}") ;;
    esac
    run tar "${{options[@]}}" -- "./$name" || exit
fi
run sync -- "$work/new" || exit
replace "$work/new" "$target" || exit
sweep "$place"
"""

# Arguments: archive, target folder, tar's compression option.
# GNU tar removes leading slashes, refuses `..` and creates links last.
_EXTRACT: Final = rf"""{BESIDE}
archive=$1 target=$2 filter=$3 beside=
while [ "$target" != / ] && [ "${{target%/}}" != "$target" ]; do target=${{target%/}}; done
case $target in */*) ;; *) target=./$target ;; esac
fail() {{
    printf '%s: %s\n' "$target" "$1" >&2
    exit 1
}}
stat -L -- "$archive" >/dev/null || exit
if [ -d "$archive" ]; then
    printf '%s: Is a directory\n' "$archive" >&2
    exit 1
fi
if [ ! -f "$archive" ]; then
    printf '%s: Not a regular file\n' "$archive" >&2  # to open a FIFO would block
    exit 1
fi
if [ -d "$target" ]; then
    work_in "$target" extract
else
    beside=${{target%/*}}
    mkdir -p -- "${{beside:-/}}" || exit
    if exists "$target"; then fail 'File exists'; fi
    work_in "$beside" extract
fi
mkdir -- "$work/new" || exit
options=(--no-unquote --extract --file="$archive" --directory="$work/new" --force-local --no-same-owner)
run tar "${{options[@]}}" ${{filter:+"$filter"}} || exit
if [ -z "$beside" ]; then
    merge "$work/new" "$target" && relock "$work/new" "$target" || exit
    sweep "$target"
else
    put_new "$work/new" "$target" -f || exit
    sweep "$beside"
fi
"""

# Reasons of GNU tar itself, in addition to those of strerror(3).
_TAR_REASONS: Final[Mapping[str, type[GatewayError]]] = {
    "file changed as we read it": Conflict,
    "File removed before we read it": Conflict,
}

# The text of tar for a file system that takes no more, and that of the shell for the user's limit (ulimit -f).
_FULL: Final = re.compile(r"Wrote only \d+ of \d+ bytes|File size limit exceeded.*")

# Messages of tar if the compression program is missing, with and without sh.
_NO_FILTER: Final = {
    "tar: Child returned status 127",
    *(f"tar (child): {name}: Cannot exec: No such file or directory" for name in ("gzip", "bzip2", "xz")),
}


@dataclass(frozen=True, slots=True)
class Script:
    """A bash script: constant text and positional arguments.

    Raises Invalid for an argument that no program can be given: one with a NUL, or that is no text of bytes.
    """

    text: str
    arguments: tuple[str, ...]

    def __post_init__(self) -> None:
        for argument in self.arguments:
            if "\0" in argument:
                raise Invalid("A path or pattern must not contain a NUL byte")
            try:
                argument.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                raise Invalid(
                    "A path or pattern contains an unpaired surrogate, which no file name can contain"
                ) from None

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line that runs the script."""
        return ("bash", "-pc", self.text, "bash", *self.arguments)


def compress(source: str, target: str, options: CompressOptions = DEFAULT_COMPRESSION) -> Script:
    """Pack `source` into the file `target`; its last name is the archive's top directory.

    `options.pattern` is a regular expression as find -regex has it, for the whole path `./NAME/…` of regular files,
    where NAME is the source's own. The archive is written beside its target and renamed when it is complete:
    an older target stays until then, and for good when anything fails. A link at `target` is followed. Holes are kept.
    """
    folder, name = posixpath.split(source.rstrip("/"))
    if name in {"", ".", ".."}:
        raise Invalid("The source path must end in the name of a file or folder")
    follow, pattern = "yes" if options.dereference else "", options.pattern or ""
    return Script(_COMPRESS, (folder or "/", name, target, _FILTERS[options.compression], follow, pattern))


def extract(source: str, target: str, *, compression: Compression = "gzip") -> Script:
    """Unpack the archive `source` into the directory `target`, which is created if it is missing.

    The archive is unpacked beside, and its files are then renamed into place: nothing has changed when tar fails.
    Directories that exist keep their modes and times.

    With compression `none` tar finds out by itself what the archive is compressed with.
    """
    return Script(_EXTRACT, (source, target, _FILTERS[compression]))


def finished(output: Output) -> None:
    """Return if a script of this module has succeeded, else raise its error.

    A failure without a reason of the operating system is caused by the archive or the pattern: Invalid.
    """
    if output.status == 0:
        return
    said = output.errors() or f"exit status {output.status}"
    first = said.splitlines()[0]
    if output.status == NOTHING_MATCHED:
        raise NotFound(first, detail=said)
    output.check_installed()
    if output.status > 125:  # ended by a signal
        raise Upstream(f"The archive program failed: {first}", detail=said)
    for line in said.splitlines():
        if line in _NO_FILTER:
            replace(output, status=127).check_installed()
        reason = line.rpartition(": ")[2]
        kind = Upstream if _FULL.fullmatch(reason) else _TAR_REASONS.get(reason) or reason_kind(reason)
        if kind is not None:
            raise kind(line, detail=said)
    raise Invalid(first, detail=said)
