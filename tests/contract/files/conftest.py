"""Every adapter of the Files port, on the sandbox's SSH server and, when FLAMECREST_LIVE is set, on the live site."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from flamecrest.sandbox.people import People
from flamecrest.sandbox.sshd import SshServer
from flamecrest.server.auth import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.files.remote import RemoteFiles
from flamecrest.server.files.site import Site as SharedByCluster
from flamecrest.server.ssh.connection import Host
from flamecrest.server.ssh.credentials import StaticKey, StaticKeys
from flamecrest.server.ssh.host_keys import HostKeys
from flamecrest.server.ssh.pool import Pool, Rules
from flamecrest.server.ssh.session import PooledSessions
from tests.live.site import Site


@dataclass(frozen=True)
class Place:
    """An adapter, an empty folder to work in, and the user whose files they are."""

    files: RemoteFiles
    folder: str
    user: str
    server: SshServer | None  # None on the live site
    pool: Pool

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"


def soon() -> Deadline:
    return Deadline.after(10)


@asynccontextmanager
async def on_sandbox(root: Path) -> AsyncIterator[Place]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    people = People(root, ["ann", "bob"])
    people.make_homes()
    server = SshServer(people, asyncssh.generate_private_key("ssh-ed25519"), keys={"ann": [key]})
    await server.start()
    try:
        trust = HostKeys(pinned=[server.host_key.export_public_key("openssh").decode()])
        keys = StaticKeys({"ann": StaticKey(key.export_private_key().decode())})
        async with Pool(Host("127.0.0.1", server.port), keys, trust, Rules()) as pool:
            files = RemoteFiles(PooledSessions(pool).of(Identity("ann")), SharedByCluster())
            folder = f"{people['ann'].home}/work"
            await files.mkdir(folder, soon())
            yield Place(files, folder, "ann", server, pool)
    finally:
        await server.stop()


@asynccontextmanager
async def on_site(site: Site) -> AsyncIterator[Place]:
    keys = StaticKeys({site.user: StaticKey(site.key(site.user).read_text())})
    async with Pool(Host(site.host, site.port), keys, HostKeys([str(site.known_hosts)]), Rules()) as pool:
        files = RemoteFiles(PooledSessions(pool).of(Identity(site.user)), SharedByCluster())
        folder = f"{site.home(site.user)}/contract-{secrets.token_hex(4)}"
        await files.mkdir(folder, soon())
        yield Place(files, folder, site.user, None, pool)
        await files.rm(folder, soon())


@pytest.fixture(params=["sandbox", pytest.param("live", marks=pytest.mark.live)])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == "sandbox":
        async with on_sandbox(tmp_path) as found:
            yield found
        return
    site = Site.from_environment()
    reason = site.why_not()
    if reason is not None:
        (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)(reason)
    async with on_site(site) as found:
        yield found
