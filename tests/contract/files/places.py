"""Where the contract suites run: adapters of the file ports, each with a directory to work in and its capabilities.

A test is marked with the capabilities it needs: `@pytest.mark.needs("disk")`. It runs on every place that has them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from grp import getgrgid
from pathlib import Path
from pwd import getpwuid
from typing import Final, Literal

import asyncssh

from flamecrest.sandbox import userland
from flamecrest.sandbox.ssh.server import SshServer
from flamecrest.sandbox.users import UnixUsers
from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.files.archives.port import Bulk
from flamecrest.server.files.archives.remote import RemoteBulk
from flamecrest.server.files.port import FileChanges, FileContents, FileQueries, Files
from flamecrest.server.files.remote.cluster_facts import ClusterFacts
from flamecrest.server.files.remote.queries import remote_files
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.credentials.static import StaticCredentials, StaticKey
from flamecrest.server.ssh.host_keys import HostKeyVerifier
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.pool.policy import PoolLimits
from flamecrest.server.ssh.pool.pool import Pool
from flamecrest.server.ssh.port import Session
from flamecrest.server.ssh.session import PooledSessions
from tests.live.site import Site
from tests.unit.http.local_bulk import LocalBulk
from tests.unit.http.local_files import LocalFiles

Capability = Literal[
    "accounts",  # the files of other users are protected
    "deadlines",  # operations end at their deadline, and when they are cancelled
    "disk",  # the tests see the same disk
    "faults",  # the server can be slowed down, and its connections be cut
    "rotation",  # a followed file that is rotated loses nothing
    "ssh",  # there is an SSH session
]
EVERYTHING: Final[frozenset[Capability]] = frozenset({"accounts", "deadlines", "disk", "faults", "rotation", "ssh"})
CAPABILITIES: Final[dict[str, frozenset[Capability]]] = {
    "sandbox": EVERYTHING,
    "commands": EVERYTHING - {"accounts"},  # without the SFTP subsystem the sandbox does not separate accounts
    "local": frozenset({"disk"}),
    "live": EVERYTHING - {"disk", "faults"},
    "live-program": EVERYTHING - {"disk", "faults"},
    "live-commands": EVERYTHING - {"disk", "faults"},
}


@dataclass(frozen=True)
class Place:
    """Adapters with an empty directory. `owner` holds the names of the user and group that its files belong to."""

    files: Files
    bulk: Bulk
    folder: str
    owner: tuple[str, str]
    ssh: SshPlace | None = None

    @property
    def queries(self) -> FileQueries:
        return self.files.queries

    @property
    def content(self) -> FileContents:
        return self.files.content

    @property
    def changes(self) -> FileChanges:
        return self.files.changes

    @property
    def session(self) -> Session:
        assert self.ssh is not None
        return self.ssh.session

    @property
    def server(self) -> SshServer:
        assert self.ssh is not None
        assert self.ssh.server is not None
        return self.ssh.server

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    async def run(self, script: str, *arguments: str) -> bytes:
        """Run a shell script as the owner of the files, for setup that no port offers."""
        argv = ("sh", "-c", script, "sh", *arguments)
        if self.ssh is not None:
            output = await self.session.run(Command(argv, lambda found: found), Deadline.after(60))
            assert output.status == 0, output.errors()
            return output.stdout
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        stdout, _ = await process.communicate()
        assert process.returncode == 0
        return stdout


@dataclass(frozen=True)
class SshPlace:
    """The SSH session and server behind the adapters."""

    user: str
    session: Session
    pool: Pool
    server: SshServer | None  # None on the live site
    another: Callable[[], Pool] | None = None  # makes a pool with connections of its own; None on the live site


def soon() -> Deadline:
    return Deadline.after(60)


def my_names() -> tuple[str, str]:
    """The user and group that run the tests."""
    return getpwuid(os.getuid()).pw_name, getgrgid(os.getgid()).gr_name


@asynccontextmanager
async def on_sandbox(root: Path, *, subsystem: bool, programs: Sequence[Path] = ()) -> AsyncIterator[Place]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    users = UnixUsers(root, ["ann", "bob"])
    users.make_homes()
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    # only with its own SFTP does the sandbox separate accounts; else files are accessed as the user of the tests
    if subsystem:
        userland.install(users, root / "bin")
    server = SshServer(
        users,
        host_key,
        keys={"ann": [key]},
        bin_dirs=[*programs, root / "bin"],
        sftp=subsystem,
    )
    await server.start()
    try:
        trust = HostKeyVerifier(pinned=[server.host_key.export_public_key("openssh").decode()])
        keys = StaticCredentials({"ann": StaticKey(key.export_private_key().decode())})

        def made() -> Pool:
            return Pool([Host("127.0.0.1", server.port)], keys, trust, PoolLimits())

        async with made() as pool:
            owner = ("ann", "ann") if subsystem else my_names()
            place = over_ssh(pool, SftpOpener(servers=()), "ann", f"{users['ann'].home}/work", owner, server)
            await asyncio.to_thread(Path(place.folder).mkdir)  # no channel is opened yet
            yield replace(place, ssh=SshPlace("ann", place.session, pool, server, made))
    finally:
        await server.stop()


@asynccontextmanager
async def on_site(site: Site, opener: SftpOpener) -> AsyncIterator[Place]:
    keys = StaticCredentials({site.user: StaticKey(site.key(site.user).read_text())})
    async with Pool([Host(site.host, site.port)], keys, HostKeyVerifier([str(site.known_hosts)]), PoolLimits()) as pool:
        folder = f"{site.home(site.user)}/contract-{secrets.token_hex(4)}"
        place = over_ssh(pool, opener, site.user, folder, (site.user, site.user), None)
        await place.changes.mkdir(folder, soon())
        yield place
        await place.changes.rm(folder, soon())


def over_ssh(
    pool: Pool, opener: SftpOpener, user: str, folder: str, owner: tuple[str, str], server: SshServer | None
) -> Place:
    sessions, identity = PooledSessions(pool, opener), Identity(user)
    session = sessions.of(identity)
    files = remote_files(sessions, ClusterFacts(), identity)
    return Place(files, RemoteBulk(session), folder, owner, SshPlace(user, session, pool, server))


def on_local_disk(root: Path) -> Place:
    """The stand-ins of the HTTP tests."""
    files = LocalFiles()
    folder = root / "work"
    folder.mkdir()
    return Place(Files(files, files, files), LocalBulk(), str(folder), my_names())
