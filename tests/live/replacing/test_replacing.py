"""The table of docs/users/files/replacing.md on ext4, XFS and tmpfs, over real sshd as real users."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from flamecrest.server.errors import Denied, Invalid, Upstream
from flamecrest.server.files.paths import IsFolder
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.files.values import CompressOptions, WriteOptions
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from tests.contract.files.places import Place, on_site, soon
from tests.live.site import Site

from .file_systems import Disk, mounted

pytestmark = pytest.mark.anyio

LARGE = os.urandom(3_000_000)
OTHER = "user01"
READ_ONLY = "until mount -o remount,ro ..; do sleep 0.1; done"  # as soon as the test before has closed its files


@pytest.fixture(scope="module", params=["ext4", "xfs", "tmpfs"])
def file_system(request: pytest.FixtureRequest, site: Site) -> Iterator[Disk]:
    with mounted(request.param, site.user) as disk:
        yield disk


@pytest.fixture
def disk(file_system: Disk) -> Iterator[Disk]:
    folder = file_system.path / "work"
    folder.mkdir()
    folder.chmod(0o777)
    yield Disk(folder, file_system.user)
    file_system.root("mount -o remount,rw . && { chattr -R -ia work 2>/dev/null || true; } && rm -rf work fill")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As for all tests; a module uses one login."""
    return "asyncio"


@pytest.fixture(scope="module")
async def place(site: Site) -> AsyncIterator[Place]:
    async with on_site(site, SftpOpener()) as found:
        yield found


def home_of(site: Site) -> list[str]:
    """The gateway's own files in the user's home directory."""
    return sorted(path.name for path in Path(site.home(site.user)).glob(".flamecrest-*"))


async def left(disk: Disk, names: list[str], *, state: bool = False) -> bool:
    """Whether only these files are left; the last requests of an upload are not waited for.

    With `state`, the state file of a resumable upload is left, too: it alone shows the completion.
    """
    for _ in range(2000):
        states = [name for name in disk.names if re.fullmatch(r"\.flamecrest-upload-[0-9a-f]{32}\.json", name)]
        if len(states) == state and sorted([*names, *states]) == disk.names:
            return True
        await asyncio.sleep(0.01)
    return False


async def send(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def small(place: Place, path: Path) -> bytes:
    await place.content.upload(str(path), send(b"new"), soon())
    return b"new"


async def large(place: Place, path: Path) -> bytes:
    await place.content.upload(str(path), send(LARGE), soon())
    return LARGE


async def resumable(place: Place, path: Path) -> bytes:
    uploads = RemoteUploads(place.session)
    key = (await uploads.create(str(path), 3, "", soon())).key
    await uploads.append(key, 0, send(b"new"), soon())
    return b"new"


WAYS = pytest.mark.parametrize("write", [small, large, resumable])
RENAMED, WRITTEN = True, False
# the setup of the file f by root, and whether a new file takes its place
KEPT = {
    "plain": ("install -o $ME -g $ME -m 640 /dev/null f", RENAMED),
    "ACL for one more user": ("install -o $ME -g $ME -m 600 /dev/null f; setfacl -m u:user01:rw f", RENAMED),
    "ACL that shuts out a user": ("install -o $ME -g $ME -m 644 /dev/null f; setfacl -m u:user01:- f", RENAMED),
    "extended attributes": ("install -o $ME -g $ME -m 644 /dev/null f; setfattr -n user.a -v '0x00ff' f", RENAMED),
    "default ACL of the folder": (
        "setfacl -d -m u:user01:rwx,m:rwx .; install -o $ME -g $ME -m 600 /dev/null f; setfacl -b f; chmod 640 f",
        RENAMED,
    ),
    "a group of others": ("install -o $ME -g user01 -m 660 /dev/null f", WRITTEN),
    "setgid without x": ("install -o $ME -g $ME /dev/null f; chmod 2640 f", RENAMED),
    "setgid folder of others": ("chgrp user01 .; chmod 2777 .; install -o $ME -g user01 -m 664 /dev/null f", RENAMED),
    "another user's": ("install -o user01 -g user01 -m 666 /dev/null f", WRITTEN),
    "another user's, by an ACL": (
        "install -o user01 -g user01 -m 600 /dev/null f; setfacl -m u:$ME:rw f",
        WRITTEN,
    ),
    "hard links": ("install -o $ME -g $ME -m 644 /dev/null f; ln f g", WRITTEN),
    "sticky folder, own": ("chmod 1777 .; install -o $ME -g $ME -m 644 /dev/null f", RENAMED),
    "sticky folder, another user's": ("chmod 1777 .; install -o user01 -m 666 /dev/null f", WRITTEN),
}


@pytest.mark.parametrize("case", KEPT)
@WAYS
async def test_rights_are_kept(place: Place, disk: Disk, case: str, write) -> None:
    setup, renamed = KEPT[case]
    disk.root(setup + "; echo a longer old content >>f")
    path = disk.path / "f"
    before, ino, names = disk.rights("f"), path.stat().st_ino, disk.names
    with path.open("rb"):  # keeps the inode from being taken again
        data = await write(place, path)
        assert path.read_bytes() == data
        assert disk.rights("f") == before
        assert (path.stat().st_ino != ino) is renamed
    assert await left(disk, names, state=write is resumable and not renamed)


@pytest.mark.parametrize("setup", ["chmod 555 .", "chmod 755 .; chown root ."])
@pytest.mark.parametrize("write", [small, large])
async def test_folder_that_takes_no_new_file(place: Place, disk: Disk, setup: str, write, site: Site) -> None:
    disk.root(f"install -o $ME -g $ME -m 600 /dev/null f; setfacl -m u:user01:r f; {setup}")
    before, home = disk.rights("f"), home_of(site)
    data = await write(place, disk.path / "f")
    assert ((disk.path / "f").read_bytes(), disk.rights("f")) == (data, before)
    with pytest.raises(Denied):
        await write(place, disk.path / "new")
    assert await left(disk, ["f"])
    assert home_of(site) == home


REFUSED = {
    "write-protected": ("install -o $ME -m 444 /dev/null f", Denied),
    "no permission": ("install -o user01 -m 644 /dev/null f", Denied),
    "no permission by an ACL": ("install -o user01 -m 666 /dev/null f; setfacl -m u:$ME:r f", Denied),
    "immutable": ("install -o $ME /dev/null f; chattr +i f", Denied),
    "append-only": ("install -o $ME /dev/null f; chattr +a f", Denied),
    "read-only file system": ("install -o $ME /dev/null f; " + READ_ONLY, Denied),
    "fifo": ("mkfifo -m 666 f", Invalid),
    "device": ("mknod -m 666 f c 1 3", Invalid),
    "folder": ("mkdir -m 777 f", IsFolder),
}


@pytest.mark.parametrize("case", REFUSED)
@WAYS
async def test_refused(place: Place, disk: Disk, case: str, write) -> None:
    setup, error = REFUSED[case]
    disk.root(setup)
    before = disk.rights("f")
    with pytest.raises(error) as raised:
        await write(place, disk.path / "f")
    assert type(raised.value) is error
    assert disk.rights("f") == before
    # that a file is append-only shows when it is written, and the data of a resumable upload is kept then
    assert (case == "append-only" and write is resumable) or await left(disk, ["f"])


@WAYS
async def test_no_new_file_on_a_read_only_file_system(place: Place, disk: Disk, write) -> None:
    disk.root(READ_ONLY)
    with pytest.raises(Denied, match="Read-only file system"):
        await write(place, disk.path / "f")


@pytest.mark.parametrize("links", [1, 2])
async def test_full_disk_leaves_the_old_content(place: Place, disk: Disk, links: int) -> None:
    disk.root("echo old >f; chown $ME f" + "; ln f g" * (links - 1))
    disk.root(f"cat /dev/zero >../fill 2>/dev/null || true; truncate -s -{4 if links == 2 else 1}M ../fill")
    with pytest.raises(Upstream):
        await large(place, disk.path / "f") if links == 2 else await place.content.upload(
            str(disk.path / "f"), send(LARGE * 3), soon()
        )
    assert (disk.path / "f").read_bytes() == b"old\n"
    assert await left(disk, ["f", "g"][:links])


async def test_full_disk_begins_no_resumable_upload(place: Place, disk: Disk) -> None:
    disk.root("cat /dev/zero >../fill 2>/dev/null || true")
    with pytest.raises(Upstream) as caught:  # not Unavailable: there is nothing to be resumed
        await RemoteUploads(place.session).create(str(disk.path / "f"), 3, "x" * 5000, soon())
    assert "resumed" not in caught.value.public
    assert await left(disk, [])


async def test_nobody_reads_the_new_content_before_it_has_its_rights(place: Place, disk: Disk) -> None:
    disk.root(f"setfacl -d -m u:{OTHER}:rwx .; install -o $ME -g $ME -m 666 /dev/null f; setfacl -b f")
    seen: set[int] = set()

    def modes() -> set[int]:
        return {stat.S_IMODE((disk.path / name).stat().st_mode) for name in disk.names if name != "f"}

    async def watched() -> AsyncIterator[bytes]:
        for at in range(0, len(LARGE), 500_000):
            yield LARGE[at : at + 500_000]
            seen.update(await asyncio.to_thread(modes))

    await place.content.upload(str(disk.path / "f"), watched(), soon())
    assert seen == {0o600}, "with a mask of nothing"
    assert (disk.path / "f").read_bytes() == LARGE


async def test_only_the_owner_sets_mode_and_time(place: Place, disk: Disk) -> None:
    disk.root(f"install -o {OTHER} -g {OTHER} -m 666 /dev/null f")
    for options in (WriteOptions(mode=0o777), WriteOptions(mtime=1)):
        for data in (b"new", LARGE):
            with pytest.raises(Denied):
                await place.content.upload(str(disk.path / "f"), send(data), soon(), options)
    assert (disk.path / "f").read_bytes() == b""


@pytest.mark.parametrize("case", KEPT)
async def test_compress_onto_an_existing_file(place: Place, disk: Disk, case: str) -> None:
    disk.root(KEPT[case][0])
    before = disk.rights("f")
    for source in ("hostname", "services"):
        options = CompressOptions(compression="none")
        await place.changes.compress(f"/etc/{source}", str(disk.path / "f"), soon(), options)
        assert disk.rights("f") == before
        with tarfile.open(disk.path / "f") as archive:
            assert archive.getnames() == [source]
