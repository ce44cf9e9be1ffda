"""Fixtures: the sandbox's SSH server with two users, and the toy Slurm with a shell."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from flamecrest.sandbox import processes, userland
from flamecrest.sandbox.slurm.toy import ToySlurm
from flamecrest.sandbox.ssh.server import SshServer
from flamecrest.sandbox.users import UnixUsers

NAMES = ("fireuser", "firesrv", "user01")


@pytest.fixture
def users(tmp_path: Path) -> UnixUsers:
    return _users(tmp_path)


def _users(folder: Path) -> UnixUsers:
    users = UnixUsers(folder / "centre", NAMES)
    users.root.mkdir(mode=0o755)
    users.make_homes()
    return users


@dataclass
class SshdSite:
    """An SSH server, the keys of its users, and functions to connect."""

    server: SshServer
    users: UnixUsers
    keys: dict[str, asyncssh.SSHKey]
    authority: asyncssh.SSHKey

    def login(
        self, user: str = "fireuser", key: asyncssh.SSHKey | asyncssh.SSHKeyPair | None = None
    ) -> AbstractAsyncContextManager[asyncssh.SSHClientConnection]:
        return asyncssh.connect(
            "127.0.0.1",
            self.server.port,
            username=user,
            client_keys=[self.keys[user] if key is None else key],
            known_hosts=None,
            config=None,
            agent_path=None,
        )


@pytest.fixture
async def site(users: UnixUsers) -> AsyncIterator[SshdSite]:
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in NAMES}
    authority, host = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    userland.install(users, users.root / "bin")
    server = SshServer(
        users,
        host,
        keys={name: [key] for name, key in keys.items()},
        authorities=[authority],
        bin_dirs=[users.root / "bin"],
    )
    await server.start()
    try:
        yield SshdSite(server, users, keys, authority)
    finally:
        await server.stop()
        processes.end_all(users.root)


@dataclass
class CommandResult:
    status: int
    out: str
    err: str


class ToyShell:
    """Runs command lines with the toy Slurm, as over SSH."""

    def __init__(self, users: UnixUsers, toy: ToySlurm) -> None:
        self.users = users
        self.toy = toy
        userland.install(users, users.root / "bin")

    def run(self, line: str, user: str = "fireuser", stdin: str = "") -> CommandResult:
        home = self.users[user].home
        environment = {
            "USER": user,
            "LOGNAME": user,
            "HOME": str(home),
            "PATH": f"{self.toy.bin_dir}:{self.users.root}/bin:/usr/bin:/bin",
            "TZ": "UTC",
            processes.MARK: str(self.users.root),
        }
        ended = subprocess.run(
            ["bash", "--norc", "-c", line],
            env=environment,
            cwd=home,
            input=os.fsencode(stdin),
            capture_output=True,
            timeout=50,
            check=False,
        )
        return CommandResult(ended.returncode, os.fsdecode(ended.stdout), os.fsdecode(ended.stderr))

    def submit(self, script: str, options: str = "", user: str = "fireuser") -> str:
        result = self.run(f"sbatch --parsable {options}", user, stdin=f"#!/bin/bash\n{script}\n")
        assert (result.status, result.err) == (0, ""), result
        return result.out.strip()

    def state(self, job: str) -> str:
        found = self.run(f"squeue -h -t all -j {job} -o %T")
        assert found.status == 0, found
        return found.out.strip()

    def wait(self, job: str, *states: str) -> str:
        """Wait until the job is in one of the states; any final one by default."""
        wanted = states or ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        found: str = eventually(lambda: (state := self.state(job)) in wanted and state)
        return found


@pytest.fixture
def shell(users: UnixUsers) -> Iterator[ToyShell]:
    with running(users) as shell:
        yield shell


@pytest.fixture(scope="module")
def shared_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyShell]:
    """One shell for all tests of a module that change nothing."""
    with running(_users(tmp_path_factory.mktemp("shared"))) as shell:
        yield shell


@contextmanager
def running(users: UnixUsers) -> Iterator[ToyShell]:
    toy = ToySlurm(users)
    toy.start(start_delay=0)
    try:
        yield ToyShell(users, toy)
    finally:
        processes.end_all(users.root, toy.sessions())


def eventually(look: Callable[[], Any]) -> Any:
    """Call `look` until it returns something true, and return that. Another process sends no event."""
    deadline = time.monotonic() + 50
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def alive(pid: int) -> bool:
    return processes.started(pid) is not None


async def started(process: asyncssh.SSHClientProcess[str]) -> int:
    """The pid that the command prints as its first line."""
    return int(await process.stdout.readline())
