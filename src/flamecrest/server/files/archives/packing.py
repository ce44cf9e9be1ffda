"""The remote tar that packs a selection: its command line, its messages, and the end of its archive. No I/O."""

from __future__ import annotations

import gzip
import os
import re
import struct
import tarfile
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.errors import Upstream
from flamecrest.server.files.remote.commands.beside import TEMPORARY_NAMES
from flamecrest.server.ssh.command import Command
from flamecrest.wire.json import dumps
from flamecrest.wire.text import is_plain, percent_encode

from .port import TRAILER, ArchiveFormat, FormatUnavailable, PathFailure

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Output

# - --no-unquote first: else tar reads `a\tb` in the list as a name with a tab in it.
# - A name that begins with a dash comes as `./-name`, so that it is no option; the transform takes the `./` off.
# - In GNU format every header has a size, and only headers of long names describe another header.
# - Temporary files of uploads and copies are left out. Holes are packed as zeros: --sparse can lose data (archive.py).
_OPTIONS: Final = (
    *("--create", "--file=-", "--format=gnu", "--no-unquote", r"--transform=s,^\./-,-,S"),
    *(f"--exclude={name}" for name in TEMPORARY_NAMES),
)
_LIST: Final = ("--null", "--files-from=-")

# Arguments: compression program, base. Records of one block make the end mark exactly 1024 bytes, which are taken
# off: the gateway appends what failed and a new mark, as a second gzip member or zstd frame.
_COMPRESSED: Final = rf"""set -u
unset TAR_OPTIONS
program=$1 base=$2
for needed in tar head "$program"; do command -v "$needed" >/dev/null || exit 127; done
quick() {{ if [ "$program" = zstd ]; then zstd -q -c; else gzip -n -c; fi; }}
tar {" ".join(f"'{option}'" for option in _OPTIONS)} --blocking-factor=1 --directory="$base" {" ".join(_LIST)} |
    head --bytes=-1024 | quick
status=("${{PIPESTATUS[@]}}")
[ "${{status[1]}}" = 0 ] && [ "${{status[2]}}" = 0 ] || exit 70
exit "${{status[0]}}"
"""

_REASON: Final = re.compile(
    r"tar: (?P<name>.+?): (?P<reason>Cannot [a-z ]+: .+|File shrank by .+|File removed before we read it"
    r"|file changed as we read it|Read error at .+|.*socket ignored|.*Unknown file type; file ignored)"
)
_ESCAPE: Final = re.compile(rb"\\([0-7]{3}|[abfnrtv\\ ])")
_LETTERS: Final = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b"\\": b"\\",
    b" ": b" ",
}
_NOISE: Final = ("tar: Exiting with failure status", "tar: Removing leading")
_ZSTD_BLOCK: Final = 128 * 1024  # the largest block of a zstd frame


def command(form: ArchiveFormat, base: str) -> Command[Any]:
    """Return the command; it reads names from its standard input, each terminated by NUL."""
    if form in {"tar", "zip"}:
        links = ("--hard-dereference",) if form == "zip" else ()  # zip has no hard links
        argv = ("tar", *_OPTIONS, *links, f"--directory={base}", *_LIST)
        return Command(argv, lambda output: output, env={"TAR_OPTIONS": ""})
    return Command(("bash", "-pc", _COMPRESSED, "bash", form, base), lambda output: output)


def check_available(output: Output, form: ArchiveFormat) -> None:
    """Raise FormatUnavailable when a program is missing, by how the pipeline ended before it said anything."""
    if output.not_installed:
        raise FormatUnavailable(f"The cluster can't make {form} archives", detail=output.errors()[:200])


def failures(output: Output, base: str) -> list[PathFailure]:
    """Return what tar could not read; raises Upstream if tar did not finish the archive."""
    said = output.errors()
    if output.status > 2 or "not recoverable" in said:
        raise Upstream("The archive could not be finished", detail=f"{output.status}: {said[:1000]}")
    return [_failure(line, base) for line in said.splitlines() if line and not line.startswith(_NOISE)]


def _failure(line: str, base: str) -> PathFailure:
    found = _REASON.fullmatch(line)
    if found is None:
        return PathFailure("", line)
    name = _ESCAPE.sub(_unescape, found["name"].encode("utf-8", "surrogateescape"))
    name = name.removeprefix(b"./")
    return PathFailure(base.rstrip("/") + "/" + os.fsdecode(name), found["reason"])


def _unescape(found: re.Match[bytes]) -> bytes:
    code = found[1]
    return _LETTERS[code] if code in _LETTERS else bytes([int(code, 8) & 0xFF])


def report(failed: Iterable[PathFailure]) -> tuple[bytes, bytes]:
    """Return name and content of the last member of an incomplete archive, which lists the failures."""
    errors = [
        {"path": one.path or None, "message": one.message}
        if is_plain(one.path)
        else {"path": percent_encode(one.path), "encoding": "percent", "message": one.message}
        for one in failed
    ]
    return TRAILER.encode(), dumps({"errors": errors}) + b"\n"


def ending(failed: Sequence[PathFailure], form: ArchiveFormat) -> bytes:
    """Return the bytes that follow the remote program's: the report, if there is one, and the end mark."""
    tail = bytes(2 * tarfile.BLOCKSIZE)
    if failed:
        name, content = report(failed)
        info = tarfile.TarInfo(name.decode())
        info.size, info.mtime = len(content), int(time.time())
        padding = -len(content) % tarfile.BLOCKSIZE
        tail = info.tobuf(tarfile.GNU_FORMAT) + content + bytes(padding) + tail
    match form:
        case "gzip":
            return gzip.compress(tail)
        case "zstd":
            return zstd_frame(tail)
    return tail


def zstd_frame(content: bytes) -> bytes:
    """Return the content as an uncompressed zstd frame (RFC 8878, sections 3.1.1 and 3.1.1.2)."""
    frame = [b"\x28\xb5\x2f\xfd\xa0", struct.pack("<I", len(content))]  # one segment, its size in four bytes
    for start in range(0, len(content), _ZSTD_BLOCK):
        block = content[start : start + _ZSTD_BLOCK]
        last = start + _ZSTD_BLOCK >= len(content)
        frame += [struct.pack("<I", len(block) << 3 | last)[:3], block]
    return b"".join(frame)
