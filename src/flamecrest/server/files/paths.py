"""The path rule: which paths a request may name, and which file system of the cluster a path belongs to. Pure."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence

from flamecrest.server.errors import Invalid

NAME_MAX, PATH_MAX = 255, 4095  # bytes; Linux's, without the final NUL


def check_path(path: str, roots: Sequence[str], name: str = "path") -> str:
    """Return the path if it is absolute and, as written, lies within one of `roots`; else raise Invalid.

    The rule is lexical: it keeps mistakes out and tells which file system a request needs. It is no wall
    against links that lead elsewhere; what a user may read is decided by the cluster's own permissions,
    which are the same as over SSH (docs/adr/0003).
    """
    if "\0" in path:
        raise Invalid(f"`{name}` must not contain a NUL byte")
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        raise Invalid(f"`{name}` holds half a surrogate pair, which no file name can") from None
    if not path.startswith("/"):
        raise Invalid(f"`{name}` must be an absolute path")
    if len(raw) > PATH_MAX or (len(raw) > NAME_MAX and any(len(part) > NAME_MAX for part in raw.split(b"/"))):
        raise Invalid(f"`{name}` is too long: a name may have {NAME_MAX} bytes, a path {PATH_MAX}")
    if not any(within(path, root) for root in roots):
        allowed = ", ".join(roots) or "none is configured"
        raise Invalid(f"`{name}` is outside the file systems of this cluster ({allowed})")
    return path


def within(path: str, root: str) -> bool:
    """Whether a path, as written and with `..` resolved lexically, is `root` or below it."""
    if path.startswith(f"{root}/") and root[:1] == "/" and "/." not in path and "//" not in path:
        return True  # there is nothing to resolve
    plain = "/" + posixpath.normpath(path).lstrip("/")
    base = "/" + posixpath.normpath(root).lstrip("/")
    return base in {"/", plain} or plain.startswith(base + "/")


def file_system(path: str, roots: Sequence[str]) -> str | None:
    """The root that a path belongs to: the longest that holds it."""
    return max((root for root in roots if within(path, root)), key=len, default=None)
