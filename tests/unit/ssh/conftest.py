"""A real SSH server in this process, and pools that log in to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from flamecrest.sandbox.ssh.server import SshServer
from flamecrest.sandbox.users import UnixUsers
from flamecrest.server.ssh.credentials.static import StaticCredentials, StaticKey
from flamecrest.server.ssh.host_keys import HostKeyVerifier, known_hosts_line
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.pool.policy import PoolLimits
from flamecrest.server.ssh.pool.pool import Pool

USERS = ("ann", "bob", "cyd")


class World:
    """The server, the users' keys, and a way to make pools."""

    def __init__(self, server: SshServer, keys: dict[str, asyncssh.SSHKey], root: Path, *, accelerate: bool) -> None:
        self.server = server
        self.keys = keys
        self.root = root
        self.host_key = server.host_key
        self.accelerate = accelerate

    def host(self, **changes: object) -> Host:
        fields = {"host": "127.0.0.1", "port": self.server.port, "accelerate": self.accelerate, **changes}
        return Host(**fields)  # type: ignore[arg-type]

    def add_users(self, names: list[str]) -> None:
        """More users, all with one key."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.keys.update(dict.fromkeys(names, key))
        self.server.keys.update({name: {key.public_data} for name in names})

    def credentials(self) -> StaticCredentials:
        return StaticCredentials(
            {name: StaticKey(key.export_private_key().decode()) for name, key in self.keys.items()}
        )

    def known_hosts(self) -> HostKeyVerifier:
        path = self.root / "known_hosts"
        path.write_text(known_hosts_line("127.0.0.1", self.server.port, self.host_key) + "\n")
        return HostKeyVerifier([str(path)])

    @asynccontextmanager
    async def pool(
        self, *hosts: Host, host_keys: HostKeyVerifier | None = None, **limits: object
    ) -> AsyncIterator[Pool]:
        """A pool on these hosts, by default on the server, with other limits than the default ones."""
        limits = {"tick": 0.02, **limits}
        async with Pool(
            hosts or [self.host()],
            self.credentials(),
            host_keys or self.known_hosts(),
            PoolLimits(**limits),  # type: ignore[arg-type]
        ) as pool:
            yield pool


@pytest.fixture(
    params=[pytest.param(True, id="accelerated"), pytest.param(False, id="asyncssh", marks=pytest.mark.exhaustive)]
)
def accelerate(request: pytest.FixtureRequest) -> bool:
    """Both values of the setting `ssh.accelerate`: auto and off. With off, most tests are exhaustive ones."""
    return bool(request.param)


# For tests of what the setting replaces: how the bytes of channels are moved. The fast suite runs them both ways.
both_ways = pytest.mark.parametrize("accelerate", [True, False], ids=["accelerated", "asyncssh"], indirect=True)


@pytest.fixture
async def world(tmp_path: Path, accelerate: bool) -> AsyncIterator[World]:
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in USERS}
    users = UnixUsers(tmp_path, USERS)
    users.make_homes()
    server = SshServer(
        users, asyncssh.generate_private_key("ssh-ed25519"), keys={name: [key] for name, key in keys.items()}
    )
    await server.start()
    yield World(server, keys, tmp_path, accelerate=accelerate)
    await server.stop()
