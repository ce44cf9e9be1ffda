"""What a user's login answers about the cluster is shown to that user only."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.files.remote.cluster_facts import MAX_NAME, MAX_NAMES, MAX_USERS, ClusterFacts
from flamecrest.server.files.remote.queries import remote_files
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from flamecrest.server.ssh.session import PooledSessions

pytestmark = pytest.mark.anyio

GETENT = "#!/bin/sh\necho mallory:x:1:1\n"
PERL = """#!/usr/bin/python3
import os, subprocess, sys
program = subprocess.Popen(["/usr/bin/perl", *sys.argv[1:]], stdin=subprocess.PIPE)
while data := os.read(0, 65536):
    program.stdin.write(data.replace(b"/etc/localtime", b"ZONE"))
    program.stdin.flush()
program.stdin.close()
sys.exit(program.wait())
"""


@pytest.fixture
def accelerate() -> bool:
    return True


@pytest.fixture
def zone():
    """A file with the rules of another time zone, whose name is as long as /etc/localtime."""
    path = Path("/tmp") / secrets.token_hex(5)[:9]
    path.write_bytes(Path("/usr/share/zoneinfo/Asia/Kathmandu").read_bytes())
    yield path
    path.unlink()


def filter_answers(home: Path, zone: Path) -> None:
    """Let a login use programs of its own in place of `getent` and of the perl that serves SFTP."""
    (home / "bin").mkdir()
    for name, text in {"getent": GETENT, "perl": PERL.replace("ZONE", str(zone))}.items():
        (home / "bin" / name).write_text(text)
        (home / "bin" / name).chmod(0o755)
    (home / ".bashrc").write_text(f"PATH={home}/bin:$PATH\n")


async def test_a_filtered_login_changes_only_its_own_listings(world, zone):
    world.server.faults.rc_files = True
    world.server.sftp = False
    filter_answers(world.server.users["ann"].home, zone)
    file = world.root / "file"
    file.write_text("")
    seconds = int(file.stat().st_mtime)
    shown = {}
    async with world.pool() as pool:
        sessions, facts = PooledSessions(pool, SftpOpener(servers=())), ClusterFacts()
        for name in ("ann", "bob"):
            queries = remote_files(sessions, facts, Identity(name)).queries
            (entry,) = await queries.ls(str(file), Deadline.after(60))
            shown[name] = (entry.user, entry.modified)
    kathmandu = datetime.fromtimestamp(seconds, ZoneInfo("Asia/Kathmandu")).strftime("%Y-%m-%dT%H:%M:%S")
    here = datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%dT%H:%M:%S")
    assert shown["ann"] == ("mallory", kathmandu)
    assert shown["bob"] == (file.owner(), here)


def test_the_cache_of_names_is_bounded():
    facts = ClusterFacts()
    for number in range(3 * MAX_NAMES):
        facts.of("ann").learn(number, number, (str(number), "x" * (MAX_NAME + number % 2)))
    assert len(facts.of("ann")._names) <= 2 * MAX_NAMES
    assert facts.of("ann")._known("group", 3 * MAX_NAMES - 1) is None, "it is too long"
    ann = facts.of("ann")
    for number in range(MAX_USERS):
        facts.of(f"user{number}")
    assert facts.of("ann") is not ann
