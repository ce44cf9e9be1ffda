"""File systems of their own for a test, mounted from an image or in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

NEEDED = ("setfacl", "getfacl", "setfattr", "chattr", "mount")
SIZE = {"ext4": "48M", "xfs": "320M", "tmpfs": "48M"}


@dataclass(frozen=True)
class Disk:
    """A directory on a file system, in which everybody may do everything."""

    path: Path
    user: str

    def root(self, script: str) -> str:
        """Run a shell script in the directory as root; `$ME` is the user of the tests."""
        done = subprocess.run(
            ["sh", "-euc", script],
            cwd=self.path,
            env=os.environ | {"ME": self.user},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())

    def rights(self, name: str) -> dict[str, object]:
        """All that a replaced file must keep."""
        found = (self.path / name).stat()
        attributes = {key: os.getxattr(self.path / name, key) for key in os.listxattr(self.path / name)}
        return {
            "owner": found.st_uid,
            "group": found.st_gid,
            "mode": found.st_mode,
            "links": found.st_nlink,
            "attributes": {key: value for key, value in attributes.items() if not key.startswith("trusted.")},
        }


@contextmanager
def mounted(kind: str, user: str) -> Iterator[Disk]:
    """A new file system; skips if this machine cannot have it."""
    missing = [
        program for program in (*NEEDED, f"mkfs.{kind}") if not shutil.which(program) and program != "mkfs.tmpfs"
    ]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {missing or NEEDED}")
    folder = Path(tempfile.mkdtemp(prefix="flamecrest-disk-"))  # pytest's own directories are closed to other users
    folder.chmod(0o755)
    place = folder / "disk"
    place.mkdir()
    if kind == "tmpfs":
        argv = ["mount", "-t", kind, "-o", f"size={SIZE[kind]}", kind, str(place)]
    else:
        image = folder / "image"
        subprocess.run(["truncate", "-s", SIZE[kind], image], check=True)
        subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
        argv = ["mount", "-o", "loop", str(image), str(place)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        shutil.rmtree(folder)
        pytest.skip(f"{kind} cannot be mounted: {done.stderr}")
    try:
        place.chmod(0o777)
        yield Disk(place, user)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        shutil.rmtree(folder)
