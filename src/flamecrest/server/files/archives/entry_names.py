"""Where an archive's entries may go: names and link targets that stay below the target directory. No I/O."""

from __future__ import annotations

from flamecrest.server.files.paths import NAME_MAX, PATH_MAX


class EntryRefused(Exception):
    """The entry cannot be created; the text is the reason."""


def entry_path(name: bytes) -> bytes:
    """Return the path of an entry relative to the target ("" is the target); raises EntryRefused if it leaves it."""
    if name.startswith(b"/"):
        raise EntryRefused("Its name is absolute")
    if b"\0" in name:
        raise EntryRefused("Its name holds a NUL byte")
    parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise EntryRefused("Its name leads out of the folder (`..`)")
    if any(len(part) > NAME_MAX for part in parts) or len(name) > PATH_MAX:
        raise EntryRefused("Its name is too long")
    return b"/".join(parts)


def link_target(link: bytes, target: bytes) -> bytes:
    """Return the target of the symbolic link `link`; raises EntryRefused if it can lead out of the directory.

    `..` may be at its beginning only: after a name that is itself a link, it leads to the parent of that link's target.
    """
    if target.startswith(b"/") or not target or b"\0" in target or len(target) > PATH_MAX:
        raise EntryRefused("The symbolic link leads out of the folder")
    parts = [part for part in target.split(b"/") if part not in {b"", b"."}]
    up = parts.count(b"..")
    if up > link.count(b"/") or b".." in parts[up:]:
        raise EntryRefused("The symbolic link leads out of the folder, or may do so: `..` follows a name")
    return target
