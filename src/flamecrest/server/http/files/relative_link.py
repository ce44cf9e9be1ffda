"""Targets of symbolic links that are given relative to the link. Lexical: no file system is read."""

from __future__ import annotations

import posixpath

from flamecrest.server.errors import Field, Invalid


def link_target(path: str, link: str, *, relative: bool, names: tuple[str, str]) -> tuple[str, str]:
    """The absolute path that a link will lead to, and the text to store in the link. Raises Invalid.

    With `relative` an absolute path is stored relative to the link's directory, and a relative path unchanged.
    names: those of the path and of the link in the request, for the errors.
    """
    if not relative:
        return path, path
    for name, value in zip(names, (path, link), strict=True):
        if not value or (name == names[1] and not value.startswith("/")):
            message = "must be an absolute path" if value else "must not be empty"
            raise Invalid(f"`{name}` {message}", fields=(Field("body", name, message),))
    folder = posixpath.dirname(link.rstrip("/")) or "/"
    if path.startswith("/"):
        return path, _relative(path, folder)
    return posixpath.normpath(posixpath.join(folder, path)), path


def _relative(path: str, folder: str) -> str:
    """An absolute path as seen from an absolute folder; posixpath.relpath may ask for the current directory."""
    names, above = ([name for name in posixpath.normpath(one).split("/") if name] for one in (path, folder))
    shared = len(posixpath.commonprefix([names, above]))
    return "/".join([".."] * (len(above) - shared) + names[shared:]) or "."
