"""The Files port over every way to reach SFTP: the sandbox's and, when FLAMECREST_LIVE is set, the live site's.

The places: `sandbox` and `live` have the subsystem; `commands` (the sandbox without it) and `live-commands` have
neither that nor OpenSSH's program, so that ours serves; `live-program` is real sshd without the subsystem.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from grp import getgrgid
from pathlib import Path
from pwd import getpwuid

import asyncssh
import pytest

from flamecrest.sandbox import userland
from flamecrest.sandbox.ssh.server import SshServer
from flamecrest.sandbox.users import UnixUsers
from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.files.port import FileChanges, FileContent, FileQueries, Files
from flamecrest.server.files.remote.cluster_facts import ClusterFacts
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from flamecrest.server.ssh.credentials import StaticCredentials, StaticKey
from flamecrest.server.ssh.host_keys import HostKeyVerifier
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.pool.policy import PoolLimits
from flamecrest.server.ssh.pool.pool import Pool
from flamecrest.server.ssh.port import Session
from flamecrest.server.ssh.session import PooledSessions
from flamecrest.server.wiring.gateway import remote_files
from tests.live.no_subsystem import without_subsystem
from tests.live.site import Site


@dataclass(frozen=True)
class Place:
    """An adapter, an empty folder to work in, the user who logs in, and whose the files are: user and group."""

    files: Files
    session: Session
    folder: str
    user: str
    owner: tuple[str, str]
    server: SshServer | None  # None on the live site
    pool: Pool

    @property
    def queries(self) -> FileQueries:
        return self.files.queries

    @property
    def content(self) -> FileContent:
        return self.files.content

    @property
    def changes(self) -> FileChanges:
        return self.files.changes

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"


def soon() -> Deadline:
    return Deadline.after(60)


@asynccontextmanager
async def on_sandbox(root: Path, *, subsystem: bool, programs: Sequence[Path] = ()) -> AsyncIterator[Place]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    users = UnixUsers(root, ["ann", "bob"])
    users.make_homes()
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    # with its own SFTP the sandbox keeps accounts apart; else what reaches files has the rights of who runs the tests
    variables = userland.install(users, root / "bin") if subsystem else None
    server = SshServer(
        users,
        host_key,
        keys={"ann": [key]},
        bin_dirs=[*programs, root / "bin"],
        variables=variables,
        sftp=subsystem,
    )
    await server.start()
    try:
        trust = HostKeyVerifier(pinned=[server.host_key.export_public_key("openssh").decode()])
        keys = StaticCredentials({"ann": StaticKey(key.export_private_key().decode())})
        async with Pool([Host("127.0.0.1", server.port)], keys, trust, PoolLimits()) as pool:
            sessions = PooledSessions(pool, SftpOpener(servers=()))
            ann = Identity("ann")
            files, session = remote_files(sessions, ClusterFacts(), ann), sessions.of(ann)
            folder = f"{users['ann'].home}/work"
            await files.changes.mkdir(folder, soon())
            mine = getpwuid(os.getuid()).pw_name, getgrgid(os.getgid()).gr_name
            yield Place(files, session, folder, "ann", ("ann", "ann") if subsystem else mine, server, pool)
    finally:
        await server.stop()


@asynccontextmanager
async def on_site(site: Site, choice: SftpOpener) -> AsyncIterator[Place]:
    keys = StaticCredentials({site.user: StaticKey(site.key(site.user).read_text())})
    async with Pool([Host(site.host, site.port)], keys, HostKeyVerifier([str(site.known_hosts)]), PoolLimits()) as pool:
        sessions, user = PooledSessions(pool, choice), Identity(site.user)
        files, session = remote_files(sessions, ClusterFacts(), user), sessions.of(user)
        folder = f"{site.home(site.user)}/contract-{secrets.token_hex(4)}"
        await files.changes.mkdir(folder, soon())
        yield Place(files, session, folder, site.user, (site.user, site.user), None, pool)
        await files.changes.rm(folder, soon())


PLACES = ("sandbox", "commands", "live", "live-program", "live-commands")
# what needs accounts that are kept apart: the sandbox's are by its own SFTP only
APART = {
    "test_folders_that_may_not_be_made",
    "test_mv_where_one_may_not",
    "test_other_peoples_files_are_denied",
}
# what tries our own server without the centre: everything would take the fast suite too long
QUICK = {
    "test_a_broken_upload_changes_and_leaves_nothing",
    "test_a_file_that_shrinks_is_never_passed_off_as_whole",
    "test_an_upload_replaces_atomically_and_keeps_the_mode",
    "test_head_tail_and_view",
    "test_ls_recursive_joins_names_and_enters_no_link",
    "test_ls_shows_what_ls_shows",
    "test_rm_takes_trees_and_links_but_not_what_they_lead_to",
    "test_sizes_survive_up_and_down",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every place for every test, most of them live."""
    if "place" not in metafunc.fixturenames:
        return
    test = metafunc.function.__name__
    metafunc.parametrize(
        "place",
        [
            pytest.param(
                name, marks=() if name == "sandbox" or (name == "commands" and test in QUICK) else pytest.mark.live
            )
            for name in PLACES
            if name != "commands" or test not in APART
        ],
        indirect=True,
    )


@pytest.fixture
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if not request.param.startswith("live"):
        async with on_sandbox(tmp_path, subsystem=request.param == "sandbox") as found:
            yield found
        return
    site = Site.from_environment()
    reason = site.why_not()
    if reason is not None:
        (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)(reason)
    async with AsyncExitStack() as stack:
        if request.param != "live":
            site = stack.enter_context(without_subsystem(site, tmp_path))
        choice = SftpOpener(servers=()) if request.param == "live-commands" else SftpOpener()
        yield await stack.enter_async_context(on_site(site, choice))
