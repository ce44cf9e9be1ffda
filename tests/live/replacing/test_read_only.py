"""Changes on a file system that is mounted read-only: SFTP version 3 has no code for the reason."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from flamecrest.server.errors import Denied
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from tests.contract.files.places import Place, on_site, soon
from tests.live.site import Site

from .file_systems import Disk, mounted

pytestmark = pytest.mark.anyio

CHANGES = {
    "mkdir": lambda place, path: place.changes.mkdir(f"{path}/new", soon()),
    "mkdir -p": lambda place, path: place.changes.mkdir(f"{path}/new/deep", soon(), parents=True),
    "symlink": lambda place, path: place.changes.symlink("f", f"{path}/new", soon()),
    "mv": lambda place, path: place.changes.mv(f"{path}/f", f"{path}/new", soon()),
    "mv over": lambda place, path: place.changes.mv(f"{path}/f", f"{path}/g", soon(), overwrite=True),
    "chmod": lambda place, path: place.changes.chmod(f"{path}/f", "600", soon()),
    "touch": lambda place, path: place.changes.touch(f"{path}/f", soon(), mtime=1),
    "touch new": lambda place, path: place.changes.touch(f"{path}/new", soon()),
    "truncate": lambda place, path: place.changes.truncate(f"{path}/f", 9, soon()),
    "rm": lambda place, path: place.changes.rm(f"{path}/f", soon()),
    "rm -r": lambda place, path: place.changes.rm(f"{path}/folder", soon()),
    "cp": lambda place, path: place.changes.cp(f"{path}/f", f"{path}/new", soon()),
    "compress": lambda place, path: place.changes.compress(f"{path}/f", f"{path}/new", soon()),
}


@pytest.fixture(scope="module")
def disk(site: Site) -> Iterator[Disk]:
    with mounted("tmpfs", site.user) as disk:
        disk.root('mkdir folder; echo f >f; echo g >g; chown -R "$ME" .; mount -o remount,ro .')
        yield disk


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As for all tests; a module uses one login."""
    return "asyncio"


@pytest.fixture(scope="module")
async def place(site: Site) -> AsyncIterator[Place]:
    async with on_site(site, SftpOpener()) as found:
        yield found


@pytest.mark.parametrize("change", CHANGES)
async def test_the_reason_is_given(place: Place, disk: Disk, change: str) -> None:
    with pytest.raises(Denied, match="Read-only file system"):
        await CHANGES[change](place, disk.path)
