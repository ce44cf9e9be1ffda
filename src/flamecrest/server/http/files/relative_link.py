"""Relative links: where a link leads by its text, and which text leads somewhere; pure, as paths are written."""

from __future__ import annotations

import posixpath

from flamecrest.server.errors import Field, Invalid


def link_target(path: str, link: str, *, relative: bool) -> tuple[str, str]:
    """The absolute path that a link will lead to, for the rule of paths, and the text to store in it.

    With `relative` an absolute path is written as it is seen from the link, and a relative one is stored as it is.
    """
    if not relative:
        return path, path
    for name, value in (("sourcePath", path), ("linkPath", link)):
        if not value or (name == "linkPath" and not value.startswith("/")):
            message = "must be an absolute path" if value else "must not be empty"
            raise Invalid(f"`{name}` {message}", fields=(Field("body", name, message),))
    folder = posixpath.dirname(link.rstrip("/")) or "/"
    if path.startswith("/"):
        return path, posixpath.relpath(path, folder)
    return posixpath.normpath(posixpath.join(folder, path)), path
