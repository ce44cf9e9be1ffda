"""Modes of new files: one rule by every way of writing, with an SFTP server and a login that have different umasks."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.files.values import CompressOptions, WriteOptions
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from tests.contract.files.places import Place, on_site, soon
from tests.live.accounts import new_user
from tests.live.process import free_port, running
from tests.live.site import Site

pytestmark = pytest.mark.anyio

USER = "fcmodes"


@pytest.fixture(scope="module")
def account(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site with one more user, and with an SSH server whose SFTP has another umask than the users' logins."""
    settings = site.known_hosts.parent / "sshd_config"
    if os.geteuid() != 0 or not settings.exists():
        pytest.skip("needs root, and the centre of tests/live/centre")
    folder, port = tmp_path_factory.mktemp("sshd"), free_port()
    own = ("Port ", "PidFile ", "Subsystem ")
    lines = [line for line in settings.read_text().splitlines() if not line.startswith(own)]
    more = (f"Port {port}", "PidFile none", "Subsystem sftp internal-sftp -u 0007")
    (folder / "sshd_config").write_text("\n".join([*lines, *more, ""]))
    (folder / "known_hosts").write_text(site.known_hosts.read_text().replace(f"]:{site.port} ", f"]:{port} "))
    with new_user(USER) as home:
        (home / ".ssh").mkdir(mode=0o700)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / USER], check=True)
        shutil.copy(folder / f"{USER}.pub", home / ".ssh/authorized_keys")
        subprocess.run(["chown", "-R", USER, home / ".ssh"], check=True)
        found = replace(site, port=port, known_hosts=folder / "known_hosts", keys=folder, users=(USER,))
        argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")]
        with running(argv, folder / "sshd.log", lambda: found.why_not() is None):
            yield found


@pytest.fixture(params=[0o022, 0o077, 0o002])
async def umasked(request: pytest.FixtureRequest, account: Site) -> AsyncIterator[tuple[Place, int]]:
    rc = Path(f"/home/{USER}/.bashrc")
    await asyncio.to_thread(rc.write_text, f"umask {request.param:03o}\n")
    async with on_site(account, SftpOpener()) as place:
        yield place, request.param


async def send(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_new_files_have_the_modes_of_the_users_umask(umasked: tuple[Place, int]) -> None:
    place, umask = umasked
    for name, data in (("small", b"1"), ("large", bytes(100_000)), ("p/large", bytes(100_000)), ("q/small", b"1")):
        await place.content.upload(place.path(name), send(data), soon(), WriteOptions(parents=True))
    uploads = RemoteUploads(place.session)
    key = (await uploads.create(place.path("tus"), 3, "", soon())).key
    await uploads.append(key, 0, send(b"abc"), soon())
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, kind in (("bulk", tarfile.REGTYPE), ("dir", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o777
            tar.addfile(member)
    await place.bulk.unpack(place.folder, send(archive.getvalue()), soon())
    await place.changes.compress(place.path("small"), place.path("packed"), soon(), CompressOptions("none"))
    await place.changes.extract(place.path("packed"), place.path("out"), soon(), compression="none")
    await place.changes.mkdir(place.path("made"), soon())
    await place.changes.mkdir(place.path("way/to"), soon(), parents=True)
    await place.changes.touch(place.path("touched"), soon())
    files = ("small", "large", "p/large", "q/small", "tus", "packed", "touched", "out/small")
    modes = {
        name: await mode(place, name) for name in (*files, "bulk", "dir", "made", "way", "way/to", "p", "q", "out")
    }
    assert modes == {name: (0o666 if name in files else 0o777) & ~umask for name in modes}


async def mode(place: Place, name: str) -> int:
    return stat.S_IMODE((await place.queries.stat(place.path(name), soon())).mode)
