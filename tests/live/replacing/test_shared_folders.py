"""Writes in a folder that another user may write to, while that user puts other files in the place of ours."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pwd import getpwnam

import pytest

from flamecrest.server.errors import GatewayError
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from tests.contract.files.places import Place, on_site, soon
from tests.live.site import Site

pytestmark = pytest.mark.anyio

OTHER = "user01"
ROUNDS = 12
CONTENT = b"c" * 200_000
SECRET = b"s" * 200_000  # as long as the content: its size gives nothing away

# what the other user does all the time: the temporary file, then the target is moved away, and another file put there
PUT_THERE = """
import os, sys, time
folder, secret, own, how = sys.argv[1:]
print("ready", flush=True)
while True:
    for name in os.listdir(folder):
        path = f"{folder}/{name}"
        try:
            if name.startswith(".flamecrest-upload-") and not name.endswith((".lock", ".json")) and how != "target":
                if os.path.islink(path) or how != "early" and os.stat(path).st_size < 200000: continue
                os.rename(path, f"{folder}/aside-{time.monotonic_ns()}")
                if how == "private": os.rename(own, path)
                else: os.symlink(secret, path)
            elif how == "target" and name.startswith(".flamecrest-upload-") and os.stat(path).st_size == 200000:
                path = f"{folder}/f"  # which is known not to be a link: a link is followed, as by a shell
                os.rename(path, f"{folder}/aside")
                os.symlink(secret, path)
                os.unlink(path)
                os.rename(f"{folder}/aside", path)
        except OSError:
            pass
"""


@pytest.fixture
def shared(site: Site) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root, and the centre of tests/live/centre")
    folder = Path(tempfile.mkdtemp(prefix="flamecrest-shared-"))
    folder.chmod(0o777)
    secret = Path(site.home(site.user)) / "secret"
    try:
        yield folder
    finally:
        secret.unlink(missing_ok=True)
        shutil.rmtree(folder)


@pytest.fixture
async def place(site: Site, shared: Path) -> AsyncIterator[Place]:  # ends before the folder goes
    async with on_site(site, SftpOpener()) as found:
        yield found


@contextmanager
def put_there(folder: Path, secret: Path, how: str) -> Iterator[None]:
    argv = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups", "/usr/bin/env", "python3", "-c"]
    if not Path(sys.executable).is_file():
        pytest.skip("needs python3")
    arguments = [PUT_THERE, str(folder), str(secret), str(folder / "own"), how]
    with subprocess.Popen([*argv, *arguments], stdout=subprocess.PIPE, cwd="/") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


async def put(place: Place, path: Path) -> None:
    async def send() -> AsyncIterator[bytes]:
        yield CONTENT

    await place.content.upload(str(path), send(), soon())


async def resumable(place: Place, path: Path) -> None:
    async def send(data: bytes) -> AsyncIterator[bytes]:
        yield data

    uploads = RemoteUploads(place.session)
    key = (await uploads.create(str(path), len(CONTENT), "", soon())).key
    await uploads.append(key, 0, send(CONTENT[:100_000]), soon())
    await uploads.append(key, 100_000, send(CONTENT[100_000:]), soon())


def prepared(folder: Path, home: Path, user: str) -> Path:
    """A file with two names, into which is written, a private file in the folder, and one outside."""
    secret, own, target = home / "secret", folder / "own", folder / "f"
    for path, data in ((secret, SECRET), (own, SECRET), (target, b"old")):
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        path.chmod(0o666 if path == target else 0o600)
        shutil.chown(path, user, user)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    with suppress(FileNotFoundError):
        (folder / "g").unlink()
    os.link(target, folder / "g")
    return secret


@pytest.mark.parametrize("how", ["link", "early", "private", "target"])
@pytest.mark.parametrize("write", [put, resumable])
async def test_no_private_file_is_opened_or_written(place: Place, site: Site, shared: Path, write, how: str) -> None:
    for _ in range(ROUNDS):
        secret = await asyncio.to_thread(prepared, shared, Path(site.home(site.user)), site.user)
        with put_there(shared, secret, how), suppress(GatewayError):
            await write(place, shared / "f")
        assert (secret.read_bytes(), stat.S_IMODE(secret.stat().st_mode)) == (SECRET, 0o600)
        for path in shared.iterdir():
            if path.is_file() and not path.is_symlink() and path.read_bytes()[:1] == b"s":
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, f"{path.name} can be read by others"


@pytest.mark.parametrize("write", [put, resumable])
async def test_a_link_that_the_kernel_does_not_follow(place: Place, site: Site, shared: Path, write) -> None:
    """Of another user, in a folder with the sticky bit that everybody may write to (fs.protected_symlinks)."""
    if Path("/proc/sys/fs/protected_symlinks").read_text().strip() != "1":
        pytest.skip("this machine follows such links")
    secret = await asyncio.to_thread(prepared, shared, Path(site.home(site.user)), site.user)
    shared.chmod(0o1777)
    (shared / "link").symlink_to(secret)
    os.lchown(shared / "link", getpwnam(OTHER).pw_uid, getpwnam(OTHER).pw_gid)
    with pytest.raises(GatewayError):
        await write(place, shared / "link")
    assert secret.read_bytes() == SECRET
