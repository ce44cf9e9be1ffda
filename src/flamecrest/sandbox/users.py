"""The made-up users of a sandbox. All their files belong to one real account on disk.

This module defines names, numbers, home directories and the owner of a file. Each job of the toy Slurm imports it:
dataclasses would take longer to import than all else.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

FIRST_UID = 1001
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


class UnixUser:
    """One user. The primary group has the same name and number, as on Debian."""

    __slots__ = ("home", "name", "uid")

    def __init__(self, name: str, uid: int, home: Path) -> None:
        self.name = name
        self.uid = uid
        self.home = home

    @property
    def gid(self) -> int:
        return self.uid


class UnixUsers:
    """All users of a sandbox. A user owns everything in `<root>/home/<name>` and `<root>/scratch/<name>`."""

    AREAS = ("home", "scratch")

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a user name")
        self.root = root.resolve()
        self._areas = tuple(os.fsencode(self.root / area) + b"/" for area in self.AREAS)
        self._by_name = {
            name: UnixUser(name, FIRST_UID + index, self.root / "home" / name) for index, name in enumerate(names)
        }
        self._by_uid = {user.uid: user for user in self._by_name.values()}

    def __iter__(self) -> Iterator[UnixUser]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> UnixUser:
        return self._by_name[name]

    def get(self, name: str) -> UnixUser | None:
        return self._by_name.get(name)

    def make_homes(self) -> None:
        """Create missing home directories, private to their owners, and missing scratch directories."""
        for area, mode in zip(self.AREAS, (0o700, 0o755), strict=True):
            (self.root / area).mkdir(mode=0o755, exist_ok=True)
            for user in self:
                (self.root / area / user.name).mkdir(mode=mode, exist_ok=True)

    def inside(self, path: bytes) -> bool:
        """Whether an absolute path without links is in the sandbox's root."""
        root = os.fsencode(self.root)
        return path == root or path.startswith(root + b"/")

    def owner(self, path: bytes, real: os.stat_result) -> tuple[int, int]:
        """The made-up uid and gid of a file, given its absolute path without links."""
        for area in self._areas:
            if path.startswith(area):
                user = self._by_name.get(os.fsdecode(path[len(area) :].split(b"/", 1)[0]))
                if user is not None:
                    return user.uid, user.gid
        return (0, 0) if self.inside(path) else (real.st_uid, real.st_gid)

    def name(self, uid: int | None) -> str:
        """The name of a user or group number (both are the same here); the number itself if it has none."""
        if uid is None:
            return ""
        user = self._by_uid.get(uid)
        if user is not None:
            return user.name
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)
