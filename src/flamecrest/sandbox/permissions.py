"""The file permissions of a sandbox user: the Unix rules, applied to made-up owners without root.

Paths are resolved as the kernel does, component by component. Nothing is changed.
"""

# Paths are arbitrary bytes, and pathlib accepts text only.
# ruff: noqa: PTH115, PTH118, PTH120
from __future__ import annotations

import errno
import os
import stat

from .users import UnixUser, UnixUsers

READ, WRITE, SEARCH = 4, 2, 1
_MAX_LINKS = 40


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class View:
    """The file system with the permissions of one user."""

    def __init__(self, users: UnixUsers, user: UnixUser) -> None:
        self._users = users
        self._user = user
        self._root = os.fsencode(users.root)

    def absolute(self, path: bytes) -> bytes:
        """The path; a relative one is resolved from the user's home directory."""
        return path if path.startswith(b"/") else os.path.join(os.fsencode(self._user.home), path)

    def find(self, path: bytes, *, follow: bool = True) -> bytes:
        """Resolve the links of a path, with `follow` also in the last component, which need not exist.

        Raises PermissionError if a directory on the way may not be searched, FileNotFoundError, NotADirectoryError, and
        OSError with ELOOP for too many links.
        """
        if b"\0" in path:
            raise _error(errno.EINVAL)
        path = self.absolute(path)
        as_directory = path.endswith((b"/", b"/."))
        todo = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
        here, links = b"/", 0
        while todo:
            part = todo.pop()
            self._search(here)
            if part == b"..":
                here = os.path.dirname(here)
                continue
            there = os.path.join(here, part)
            try:
                mode = os.lstat(there).st_mode
            except FileNotFoundError:
                if todo:
                    raise
                return there
            if stat.S_ISLNK(mode) and (todo or follow or as_directory):
                links += 1
                if links > _MAX_LINKS:
                    raise _error(errno.ELOOP)
                target = os.readlink(there)
                here = b"/" if target.startswith(b"/") else here
                as_directory = as_directory or (not todo and target.endswith((b"/", b"/.")))
                todo += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
            elif todo and not stat.S_ISDIR(mode):
                raise _error(errno.ENOTDIR)
            else:
                here = there
        return os.path.join(here, b"") if as_directory and here != b"/" else here

    def check(self, path: bytes, want: int) -> os.stat_result:
        """Raise PermissionError unless the user has the permissions `want` for a path that `find` returned."""
        path = path.rstrip(b"/") or b"/"
        found = os.lstat(path)
        uid, gid = self._users.owner(path, found)
        if uid == self._user.uid:
            allowed = found.st_mode >> 6
        elif gid == self._user.gid:
            allowed = found.st_mode >> 3
        else:
            allowed = found.st_mode
        if want & ~allowed & 7:
            raise _error(errno.EACCES)
        return found

    def check_entry(self, path: bytes) -> None:
        """Raise PermissionError unless the user may create, rename or remove the directory entry `path`."""
        path = path.rstrip(b"/")
        parent = os.path.dirname(path)
        found = self.check(parent, WRITE | SEARCH)
        if found.st_mode & stat.S_ISVTX and os.path.lexists(path) and not (self.owns(path) or self.owns(parent)):
            raise _error(errno.EPERM)

    def owns(self, path: bytes) -> bool:
        path = path.rstrip(b"/") or b"/"
        return self._users.owner(path, os.lstat(path))[0] == self._user.uid

    def _search(self, directory: bytes) -> None:
        # The directories above the sandbox's root may be private to the account that runs it, so they are not checked.
        if self._root != directory and not self._root.startswith(os.path.join(directory, b"")):
            self.check(directory, SEARCH)
