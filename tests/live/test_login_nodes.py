"""Several login nodes, real OpenSSH on addresses of the loopback: one is stopped, killed, and comes back."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.ssh.credentials.static import StaticCredentials, StaticKey
from flamecrest.server.ssh.host_keys import HostKeyVerifier
from flamecrest.server.ssh.nodes.node import Health, Node
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.pool.policy import PoolLimits
from flamecrest.server.ssh.pool.pool import Pool
from flamecrest.server.ssh.session import PooledSessions

from .accounts import new_user, sshd_keys
from .process import free_port, running

pytestmark = pytest.mark.anyio

USERS = [f"fcnode{number}" for number in range(4)]
ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
CONFIG = """
Port {port}
ListenAddress {address}
HostKey {folder}/host
AuthorizedKeysFile {folder}/keys
StrictModes no
UsePAM no
PidFile none
MaxStartups 100
"""


class Centre:
    """The nodes' SSH servers by address, which can be stopped, killed and started."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._running: dict[str, tuple[ExitStack, int]] = {}

    def start(self, address: str) -> None:
        config = self.folder / f"config-{address}"
        config.write_text(CONFIG.format(port=self.port, folder=self.folder, address=address))
        stack = ExitStack()
        argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)]
        pid = stack.enter_context(running(argv, self.folder / f"log-{address}", lambda: self._up(address)))
        self._running[address] = (stack, pid)

    def _up(self, address: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((address, self.port)) == 0

    def signal(self, address: str, number: signal.Signals) -> None:
        """Send a signal to the node's server and to the processes of its connections."""
        waiting = [self._running[address][1]]
        while waiting:
            pid = waiting.pop()
            found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
            waiting += map(int, found.stdout.split())
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def kill(self, address: str) -> None:
        self.signal(address, signal.SIGKILL)
        self._running.pop(address)[0].close()

    def close(self) -> None:
        for address in list(self._running):
            self.signal(address, signal.SIGCONT)
            self._running.pop(address)[0].close()


@pytest.fixture
def accounts() -> Iterator[None]:
    with ExitStack() as stack:
        for user in USERS:
            stack.enter_context(new_user(user))
        yield


@pytest.fixture
async def nodes(
    accounts: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Centre, Pool]]:
    folder = tmp_path_factory.mktemp("sshd")
    host, mine = sshd_keys(folder)
    centre = Centre(folder, free_port())
    key = mine.export_private_key().decode()
    try:
        for address in ADDRESSES:
            centre.start(address)
        hosts = [Host(address, centre.port) for address in ADDRESSES]
        trust = HostKeyVerifier(pinned=[host.export_public_key("openssh").decode()])
        async with Pool(hosts, StaticCredentials(dict.fromkeys(USERS, StaticKey(key))), trust, PoolLimits()) as pool:
            yield centre, pool
    finally:
        centre.close()


async def until(true) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.02)


class Readers:
    """Every user reads again and again; no read may fail."""

    def __init__(self, pool: Pool) -> None:
        self._sessions = PooledSessions(pool)
        self.reads = dict.fromkeys(USERS, 0)
        self.longest = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Readers:
        self._tasks = [asyncio.create_task(self._read(user)) for user in USERS]
        await self.all_read()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results

    async def _read(self, user: str) -> None:
        session = self._sessions.of(Identity(user))
        home = pwd.getpwnam(user).pw_dir
        while True:
            begun = time.monotonic()
            await session.stat(home, Deadline.after(30), follow=True)
            self.longest = max(self.longest, time.monotonic() - begun)
            self.reads[user] += 1
            await asyncio.sleep(0.02)

    async def all_read(self) -> None:
        """Wait until every user has read three times more."""
        before = dict(self.reads)
        await until(lambda: self.failed() or all(self.reads[user] >= before[user] + 3 for user in USERS))
        assert not self.failed()

    def failed(self) -> bool:
        return any(task.done() for task in self._tasks)


def node_of(pool: Pool, address: str) -> Node:
    return next(node for node in pool.nodes.all if node.host.host == address)


async def test_no_read_fails_while_a_node_is_stopped_killed_and_back(nodes):
    centre, pool = nodes
    async with Readers(pool) as readers:
        used = {connection.host.host for connection in pool.all_connections()}
        assert len(used) == len(ADDRESSES), "users are spread"
        first, second = sorted(used)[:2]
        centre.signal(first, signal.SIGSTOP)
        await until(lambda: node_of(pool, first).health is Health.DOWN)
        await readers.all_read()
        print(f"longest read while {first} was stopped: {readers.longest:.2f} s")
        assert all(one.in_flight == 0 for one in pool.all_connections() if one.host.host == first), "nobody stays"
        centre.signal(first, signal.SIGCONT)
        await until(lambda: node_of(pool, first).health is not Health.DOWN)
        centre.kill(second)
        await readers.all_read()
        assert not any(one.host.host == second for one in pool.all_connections())
        centre.start(second)
        node = node_of(pool, second)
        await until(lambda: node.health is not Health.DOWN)
        await readers.all_read()
