"""Error texts of file operations, as coreutils print them: `stat: cannot statx '/x': No such file or directory`.

The part before the last colon, the prefix, is given by each operation (queries.py, content.py, changes.py). The rest
and the kind of the error come from the one table here, for errno values, SFTP status codes and output of programs.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Conflict, Denied, GatewayError, Invalid, NotFound, Unsupported, Upstream
from flamecrest.server.files.paths import IsFolder
from flamecrest.server.ssh.channels.sftp_packets import NO_SUCH_FILE, PERMISSION_DENIED, UNSUPPORTED, SftpError
from flamecrest.server.ssh.errors import StatError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Texts of strerror(3) in the C locale, in which all programs on the cluster run: they report no codes.
REASONS: Final[Mapping[int, tuple[str, type[GatewayError]]]] = {
    errno.ENOENT: ("No such file or directory", NotFound),
    errno.EACCES: ("Permission denied", Denied),
    errno.EPERM: ("Operation not permitted", Denied),
    errno.EROFS: ("Read-only file system", Denied),
    errno.EEXIST: ("File exists", Conflict),
    errno.ENOTEMPTY: ("Directory not empty", Conflict),
    errno.ENOTDIR: ("Not a directory", Invalid),
    errno.EISDIR: ("Is a directory", IsFolder),
    errno.ENAMETOOLONG: ("File name too long", Invalid),
    errno.EINVAL: ("Invalid argument", Invalid),
    errno.ELOOP: ("Too many levels of symbolic links", Invalid),
    errno.ENOSPC: ("No space left on device", Upstream),
    errno.EDQUOT: ("Disk quota exceeded", Upstream),
    errno.EIO: ("Input/output error", Upstream),
}

# SFTP version 3 has codes for these reasons only; most others are FAILURE.
_STATUSES: Final[Mapping[int, int]] = {NO_SUCH_FILE: errno.ENOENT, PERMISSION_DENIED: errno.EACCES}

_KINDS: Final[Mapping[str, type[GatewayError]]] = dict(REASONS.values())


def operation_error(error: SftpError | StatError, prefix: str) -> GatewayError:
    """Return the error that the caller gets: `prefix` (operation and path), a colon, and the reason."""
    if isinstance(error, StatError):
        number = error.errno
        reason, kind = REASONS.get(number) or (os.strerror(number), Upstream)
        return kind(f"{prefix}: {reason}")
    if error.code in _STATUSES:
        reason, kind = REASONS[_STATUSES[error.code]]
        return kind(f"{prefix}: {reason}")
    if error.code == UNSUPPORTED:
        return Unsupported(f"{prefix}: the server does not support this")
    return Upstream(f"{prefix}: {error.message or 'Failure'}", detail=f"SFTP status {error.code}")


def reason_kind(reason: str) -> type[GatewayError] | None:
    """Return the kind of an error by its reason, the words that a program prints last; None if they are unknown."""
    return _KINDS.get(reason)
