"""Real OpenSSH with `ForceCommand internal-sftp`, and with a subsystem that the login shell starts."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flamecrest.server.errors import GatewayError
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.credentials.static import StaticCredentials, StaticKey
from flamecrest.server.ssh.errors import NoCommands
from flamecrest.server.ssh.host_keys import HostKeyVerifier
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.pool.policy import PoolLimits
from flamecrest.server.ssh.pool.pool import Pool
from tests.contract.files.places import over_ssh, soon
from tests.contract.files.test_without_commands import pieces, walk_through

from .accounts import new_user, sshd_keys
from .process import free_port, running

pytestmark = pytest.mark.anyio

USER = "fcsftponly"
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/keys
StrictModes no
UsePAM no
PidFile none
{more}
"""
FORCED = "Subsystem sftp internal-sftp\nForceCommand internal-sftp"
FORCED_PROGRAM = "ForceCommand /usr/lib/openssh/sftp-server"  # without the subsystem, and silent
BY_SHELL = "Subsystem sftp /usr/lib/openssh/sftp-server"


@pytest.fixture
def account() -> Iterator[Path]:
    """The home directory of a new user."""
    with new_user(USER) as home:
        yield home


@pytest.fixture
async def login(request: pytest.FixtureRequest, account: Path, tmp_path_factory: pytest.TempPathFactory):
    """The user's files behind an sshd of its own."""
    folder = tmp_path_factory.mktemp("sshd")
    host, mine = sshd_keys(folder)
    port = free_port()
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder, more=request.param))
    trust = HostKeyVerifier(pinned=[host.export_public_key("openssh").decode()])
    keys = StaticCredentials({USER: StaticKey(mine.export_private_key().decode())})
    with running(["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")], folder / "log", lambda: _up(port)):
        async with Pool([Host("127.0.0.1", port)], keys, trust, PoolLimits()) as pool:
            work = account / "work"
            work.mkdir()
            shutil.chown(work, USER, USER)
            yield over_ssh(pool, SftpOpener(), USER, str(work), (USER, USER), None)


def _up(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("login", [FORCED, FORCED_PROGRAM], ids=["internal", "program"], indirect=True)
async def test_files_of_a_login_with_sftp_only(login):
    await walk_through(login)
    data = os.urandom(300_000)
    key = (await RemoteUploads(login.session).create(login.path("t"), len(data), "", soon())).key
    await RemoteUploads(login.session).append(key, 0, pieces(data[:100_000]), soon())
    assert (await RemoteUploads(login.session).append(key, 100_000, pieces(data[100_000:]), soon())).complete
    await login.changes.rm(login.path("a"), soon())
    assert [entry.name for entry in await login.queries.ls(login.folder, soon())] == ["t"]
    with pytest.raises(NoCommands, match="SFTP only; cp needs commands"):
        await login.changes.cp(login.path("t"), login.path("u"), soon())
    with pytest.raises(NoCommands):
        await login.session.run(Command(("true",), lambda output: output), soon())


@pytest.mark.parametrize("login", [BY_SHELL], indirect=True)
async def test_a_subsystem_that_ends_with_the_login_says_why(login, account):
    (account / ".bashrc").write_text("echo Down for maintenance >&2; exit\n")
    with pytest.raises(GatewayError, match=r"ended before .* started: Down for maintenance"):
        await login.queries.stat(login.folder, soon())
    with pytest.raises(GatewayError, match=r"ended before .* started: Down for maintenance"):
        await login.queries.ls(login.folder, soon())
