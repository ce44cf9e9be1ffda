"""Opening SFTP: by the subsystem, OpenSSH's program or ours, or not at all; and what is remembered."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unsupported
from flamecrest.server.ssh.channels.sftp import Sftp
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from flamecrest.server.ssh.errors import NotStarted
from flamecrest.server.ssh.host_keys import HostKeyVerifier
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.session import PooledSessions

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def extensions(sessions: PooledSessions, user: str = "ann") -> set[bytes]:
    """The extensions of the SFTP server that a user gets."""

    async def use(sftp: Sftp) -> set[bytes]:
        assert (await sftp.stat(b"/")).mode
        return set(sftp.extensions)

    return await sessions.of(Identity(user)).sftp(use, Deadline.after(30))


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_the_subsystem_is_used_where_there_is_one(world):
    async with world.pool() as pool:
        await extensions(PooledSessions(pool, SftpOpener(servers=())))
        assert (world.server.counts.sftp_sessions, world.server.counts.commands) == (1, 0)


async def test_a_refusal_is_remembered_for_a_while_for_its_user(world):
    clock = Clock()
    opener = SftpOpener(servers=(), clock=clock, refusal_ttl=60)
    world.server.sftp = False
    async with world.pool() as pool:
        offered = await extensions(PooledSessions(pool, opener))
        assert b"posix-rename@openssh.com" in offered
        assert b"copy-data" not in offered
        world.server.sftp = True
        await extensions(PooledSessions(pool, opener), "bob")
        assert (world.server.counts.sftp_sessions, world.server.counts.commands) == (1, 1)
    clock.now += 59
    for asked in ((1, 2), (2, 2)):  # connections keep their SFTP channel, so each has its own pool
        async with world.pool() as pool:
            await extensions(PooledSessions(pool, opener))
            assert (world.server.counts.sftp_sessions, world.server.counts.commands) == asked
        clock.now += 1


async def test_the_first_server_that_can_be_run_is_used(world, tmp_path):
    world.server.sftp = False
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    ran = tmp_path / "it's run"
    first = script(tmp_path / "first $(x)", f"touch {shlex.quote(str(ran))}")
    never = script(tmp_path / "never", "exit 1")
    async with world.pool() as pool:
        sessions = PooledSessions(pool, SftpOpener([str(tmp_path / "none"), str(tmp_path), str(plain), first, never]))
        # the chosen program ends at once, but it was the right one
        with pytest.raises(NotStarted):
            await extensions(sessions)
    assert ran.exists()


@pytest.mark.parametrize("perl", [None, "exit 2"], ids=["none", "one that lacks a module"])
async def test_without_perl_it_is_unsupported(world, tmp_path, perl):
    """PATH of the login shell contains sh only."""
    world.server.sftp = False
    world.server.faults.rc_files = True
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    if perl is not None:
        script(programs / "perl", perl)
    (world.server.users["ann"].home / ".bashrc").write_text(f"echo noise; PATH={programs}\n")
    async with world.pool() as pool:
        with pytest.raises(Unsupported, match="no subsystem, no sftp-server, no perl"):
            await extensions(PooledSessions(pool, SftpOpener(servers=())))
        assert pool.stats()["channels"] == 0
        # another account has perl
        assert await extensions(PooledSessions(pool, SftpOpener(servers=())), "bob")


async def test_text_of_login_scripts_is_skipped(world):
    world.server.sftp = False
    world.server.faults.rc_files = True
    (world.server.users["ann"].home / ".bashrc").write_text("echo 'Welcome!'; head -c 5000 /dev/zero\n")
    async with world.pool() as pool:
        assert await extensions(PooledSessions(pool, SftpOpener(servers=())))


class _Nothing(asyncssh.SSHServerSession[bytes]):
    """A channel that is opened, and refuses every request."""


class _Closed(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - asyncssh calls it so
        return False

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        return _Nothing()


@asynccontextmanager
async def no_channels(key: asyncssh.SSHKey) -> AsyncIterator[int]:
    server = await asyncssh.create_server(_Closed, "127.0.0.1", 0, server_host_keys=[key], encoding=None)
    async with server:
        yield server.get_port()


async def test_a_server_with_neither_sftp_nor_commands_is_unsupported(world):
    """The error names the problem, and the server is not asked again and again."""
    async with (
        no_channels(world.host_key) as port,
        world.pool(
            Host("127.0.0.1", port),
            host_keys=HostKeyVerifier(pinned=[world.host_key.export_public_key("openssh").decode()]),
        ) as pool,
    ):
        with pytest.raises(Unsupported, match="neither SFTP nor commands"):
            await extensions(PooledSessions(pool))
        assert pool.stats()["channels"] == 0


async def test_many_requests_on_a_server_with_one_channel(world):
    world.server.sftp = False
    world.server.max_sessions = 1
    async with world.pool(per_user=1) as pool:
        sessions = PooledSessions(pool, SftpOpener(servers=()))
        found = await asyncio.gather(*(extensions(sessions) for _ in range(20)))
    assert len({frozenset(one) for one in found}) == 1
    assert world.server.counts.commands == 1
