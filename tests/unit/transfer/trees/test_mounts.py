"""Folders below a mounted part of a file system: that one contains the other is not to be seen in their paths."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flamecrest.server.errors import Invalid

pytestmark = [pytest.mark.anyio, pytest.mark.live]  # only root can mount


@pytest.fixture
def mount(folders) -> Iterator[Path]:
    """A mounted part of the source: `around/part` can be seen there."""
    (folders.source / "around" / "part").mkdir(parents=True)
    with ExitStack() as stack:
        yield mounted(stack, folders.source / "around" / "part", folders.source.parent / "it's a \\ mount")


def mounted(stack: ExitStack, original: Path, place: Path) -> Path:
    place.mkdir()
    try:
        subprocess.run(["mount", "--bind", original, place], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mount here: {error}")
    stack.callback(lambda: subprocess.run(["umount", "-l", place], check=True))
    return place


@pytest.mark.parametrize("name", ["", "there", "new"])
async def test_a_target_in_the_source(folders, mount, write, name):
    write(folders.source / "file")
    (mount / "there").mkdir()
    before = sorted(folders.source.rglob("*"))
    folders.target = mount / name
    with pytest.raises(Invalid, match="contains the other"):
        await folders.sync(delete=True)
    assert sorted(folders.source.rglob("*")) == before


async def test_a_source_in_the_target(folders, mount, write):
    kept = write(mount / "inner" / "file")
    folders.source, folders.target = mount / "inner", folders.source
    with pytest.raises(Invalid, match="contains the other"):
        await folders.sync(delete=True)
    assert kept.read_bytes() == b"content"


@pytest.mark.parametrize("name", ["there", "new"])
async def test_folders_beside_each_other(folders, mount, write, name):
    """They are in the same folders, and none is in the other."""
    write(folders.source / "around" / "other" / "file")
    write(mount / "there" / "extra")
    folders.source, folders.target = folders.source / "around" / "other", mount / name
    report = await folders.sync(delete=True)
    assert not report.errors
    assert [path.name for path in folders.target.iterdir()] == ["file"]
