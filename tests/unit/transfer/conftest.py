"""Fixtures shared by the tests of transfer jobs and archives."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@pytest.fixture
def ordinary() -> int | None:
    """A user id without privileges to run things as; None when the tests themselves have none."""
    return NOBODY if os.geteuid() == 0 else None


@pytest.fixture
def home(ordinary: int | None) -> Iterator[Path]:
    """A folder that belongs to the ordinary user, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="flamecrest-"))
    folder.chmod(0o755)
    if ordinary is not None:
        os.chown(folder, ordinary, -1)
    yield folder
    for parent, names, _ in os.walk(folder):
        for name in names:
            if not Path(parent, name).is_symlink():
                Path(parent, name).chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder `data` with files, and beside it a file that must not be archived."""
    top = tmp_path / "in" / "data"
    (top / "sub").mkdir(parents=True)
    (top / "a.txt").write_text("a")
    (top / "b.log").write_text("b")
    (top / "sub" / "c.txt").write_text("c")
    (tmp_path / "in" / "sibling.txt").write_text("not mine")
    (tmp_path / "out").mkdir()
    return top
