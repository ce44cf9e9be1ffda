"""The path rule: which paths a request may name, and to which file system of the cluster a path belongs. No I/O."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence

from flamecrest.server.errors import Invalid

NAME_MAX, PATH_MAX = 255, 4095  # bytes; the limits of Linux, without the terminating NUL


class IsFolder(Invalid):
    """The path of a file is that of a folder."""


def check_path(path: str, roots: Sequence[str], name: str = "path") -> str:
    """Return the file system that holds a path: the longest of `roots` that contains it. `name` is the parameter's.

    Raises Invalid for a path that is not absolute, too long or outside all `roots`. The rule is lexical: it detects
    mistakes, and tells which file system a request needs. It does not restrict where symbolic links lead; the
    permissions on the cluster decide what a user may access, as they do over SSH (docs/adr/0003).
    """
    if "\0" in path:
        raise Invalid(f"`{name}` must not contain a NUL byte")
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        raise Invalid(f"`{name}` contains an unpaired surrogate, which no file name can contain") from None
    if not path.startswith("/"):
        raise Invalid(f"`{name}` must be an absolute path")
    if len(raw) > PATH_MAX or (len(raw) > NAME_MAX and any(len(part) > NAME_MAX for part in raw.split(b"/"))):
        raise Invalid(f"`{name}` is too long: a name may have {NAME_MAX} bytes, a path {PATH_MAX}")
    file_system = max((root for root in roots if within(path, root)), key=len, default=None)
    if file_system is None:
        configured = ", ".join(roots) or "none is configured"
        raise Invalid(f"`{name}` is outside the file systems of this cluster ({configured})")
    return file_system


def check_removable(path: str, roots: Sequence[str]) -> None:
    """Raise Invalid if a path is one of the file systems `roots` itself, or contains one. The rule is lexical."""
    if any(within(root, path) for root in roots):
        raise Invalid(f"'{path}' is a whole file system of this cluster: it can't be removed")


def check_new_file(path: str) -> None:
    """Raise IsFolder or Invalid if no file that is uploaded can have the path, whatever is there."""
    if path.endswith("/"):
        raise folder_in_the_way(path)
    if len(os.fsencode(path)) > PATH_MAX or len(os.fsencode(os.path.basename(path))) > NAME_MAX:  # noqa: PTH119 -- any bytes
        raise Invalid(f"upload: {path}: File name too long")


def folder_in_the_way(path: str) -> IsFolder:
    """The error of an upload to the path of a folder."""
    inside = posixpath.join(path, "NAME")
    return IsFolder(f"upload: {path}: Is a directory. The path must be that of the file itself, such as {inside}")


def under_root(path: str, real_roots: Mapping[str, str]) -> str:
    """A path without links, with the name of the file system that it lies in.

    `real_roots` are the file systems' paths without links, by their names: `/scratch` may be a link itself.
    """
    inside = [(len(real), name, real) for name, real in real_roots.items() if within(path, real)]
    if not inside:
        return path
    _, name, real = max(inside)
    return (name + path[len(real.rstrip("/")) :]) or "/"


def within(path: str, root: str) -> bool:
    """Whether a path is `root` or below it, with `..` resolved lexically."""
    if path.startswith(f"{root}/") and root[:1] == "/" and "/." not in path and "//" not in path:
        return True  # nothing to normalize
    plain = "/" + posixpath.normpath(path).lstrip("/")
    base = "/" + posixpath.normpath(root).lstrip("/")
    return base in {"/", plain} or plain.startswith(base + "/")
