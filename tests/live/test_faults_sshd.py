"""Limits of sshd and of its users' processes, logins that hang, and the penalties of OpenSSH 9.8 and newer."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from flamecrest.sandbox.issuer import Issuer

from .fault_world import World, is_error
from .faults import until
from .process import Server
from .site import Site

CHROOTS = (Path(f"/var/cache/flamecrest-centres/{suite}") for suite in ("trixie", "sid"))
pytestmark = [
    pytest.mark.skipif(
        any(name.startswith("FLAMECREST_LIVE_") for name in os.environ), reason="another site than tests/live/centre"
    ),
    pytest.mark.timeout(240),
]
HANGS = """#!/bin/sh
case $1 in
{slow}) exec sleep 1000 ;;
esac
cat "/home/$1/.ssh/authorized_keys"
"""


def everything(world: World, client: httpx.Client) -> dict[str, httpx.Response]:
    """One answer of each kind, asked for at once: SFTP, the agent, commands."""
    home, system = world.site.home(world.site.user), world.site.system
    asked: Mapping[str, Callable[[], httpx.Response]] = {
        "stat": lambda: client.get(f"{world.ops}/stat", params={"path": home}),
        "ls": lambda: client.get(f"{world.ops}/ls", params={"path": home}),
        "download": lambda: client.get(f"{world.ops}/download", params={"path": f"{home}/.profile"}),
        "upload": lambda: client.put(f"{world.ops}/upload", params={"path": f"{home}/limits"}, content=b"x" * 500_000),
        "file": lambda: client.get(f"{world.ops}/file", params={"path": home}),
        "userinfo": lambda: client.get(f"/status/{system}/userinfo"),
        "jobs": lambda: client.get(world.jobs),
    }
    with ThreadPoolExecutor(len(asked)) as pool:
        return {what: future.result() for what, future in [(what, pool.submit(ask)) for what, ask in asked.items()]}


def all_served(answers: Mapping[str, httpx.Response]) -> None:
    assert not {what: answer.text[:200] for what, answer in answers.items() if not answer.is_success}


def test_everything_works_with_one_session(world: World) -> None:
    client = world.client(world.gateway(world.sshd(MaxSessions="1"), command_execution=30))
    for _ in range(3):
        all_served(everything(world, client))


def test_no_sessions_at_all_are_an_error(world: World) -> None:
    client = world.client(world.gateway(world.sshd(MaxSessions="0")))
    for what, answer in everything(world, client).items():
        assert is_error(answer, 424), what
        assert "MaxSessions" in answer.json()["message"]


@contextmanager
def processes(user: str, number: int) -> Iterator[None]:
    """Processes of the user, by which the limit of them is reached."""
    sleeps = ["setpriv", f"--reuid={user}", "--clear-groups", "sleep", "600"]
    started = [subprocess.Popen(sleeps) for _ in range(number)]
    try:
        yield
    finally:
        for one in started:
            one.kill()
            one.wait()


@pytest.mark.parametrize("warm", [True, False], ids=["with channels", "without channels"])
def test_a_user_at_the_limit_of_processes(world: World, warm: bool) -> None:
    made = world.gateway(world.sshd(limits=["--nproc=60:60"]), command_execution=4)
    client, other = world.client(made), world.client(made, "user01")
    if warm:
        all_served(everything(world, client))
    else:
        assert world.stat(client).status_code == 200
    assert world.stat(other, "user01").status_code == 200
    with processes(world.site.user, 60):
        for _ in range(3):
            answers = everything(world, client)
            assert not [one.text for one in answers.values() if one.status_code not in {200, 201, 204, 408, 424}]
            all_served({"stat": world.stat(other, "user01"), "jobs": other.get(world.jobs)})
    until(lambda: all(answer.is_success for answer in everything(world, client).values()), "all is served again", 60)


def test_few_descriptors_of_sshd(world: World) -> None:
    client = world.client(world.gateway(world.sshd(limits=["--nofile=24:24"]), command_execution=30))
    for _ in range(3):
        all_served(everything(world, client))


def test_a_user_without_processes_and_descriptors(world: World) -> None:
    """ulimit in a start-up file counts for what the shell starts."""
    profile = Path(world.site.home(world.site.user), ".bashrc")
    before = profile.read_text()
    client = world.client(world.gateway(world.sshd(Subsystem="sftp /usr/lib/openssh/sftp-server")))
    try:
        for text in ("ulimit -u 1\n", "ulimit -n 4\n", "ulimit -v 2000\n", "ulimit -f 0\n", "ulimit -t 0\n"):
            profile.write_text(text)
            for answer in everything(world, client).values():
                assert answer.is_success or is_error(answer, 404, 424, 429, 501, 503)
                assert answer.status_code != 404
    finally:
        profile.write_text(before)


def test_users_whose_logins_hang_delay_nobody(world: World, tmp_path: Path) -> None:
    slow = [user for user in (f"user{number:02d}" for number in range(1, 21)) if user != world.site.user][:18]
    keys = Path("/etc/ssh") / f"fclogins-keys-{os.getpid()}"  # sshd runs it only from where users cannot write
    keys.write_text(HANGS.format(slow="|".join(slow)))
    keys.chmod(0o755)
    try:
        server = world.sshd(
            AuthorizedKeysFile="none", AuthorizedKeysCommand=f"{keys} %u", AuthorizedKeysCommandUser="root"
        )
        made = world.gateway(server, login=8)
        with ThreadPoolExecutor(len(slow)) as pool:
            hung = [pool.submit(world.stat, world.client(made, user), user) for user in slow]
            until(lambda: len(server.sessions()) >= 8, "logins hang")
            assert world.stat(world.client(made)).status_code == 200
            assert not all(one.done() for one in hung), "it was served while logins hung"
            for one in hung:
                assert is_error(one.result(), 424, 503)
    finally:
        keys.unlink()


@pytest.fixture
def newest(live_issuer: Issuer, tmp_path: Path) -> Iterator[tuple[World, Path]]:
    """The world of a centre in a chroot, whose OpenSSH has penalties, and the chroot."""
    for root in CHROOTS:
        if (root / "proc/version").exists() and (root / "centre/keys").is_dir():
            keys = tmp_path / "keys"
            shutil.copytree(root / "centre/keys", keys)
            site = replace(Site.from_environment({"CLUSTER_DIR": str(root / "centre")}), keys=keys)
            with ExitStack() as stack:
                yield World(site, live_issuer, tmp_path, stack), root
            return
    pytest.skip("needs a centre of SUITE=trixie or SUITE=sid")


def test_a_refused_key_costs_nobody_else_the_login(newest: tuple[World, Path]) -> None:
    world, root = newest
    refused, *others = (f"user{number:02d}" for number in range(1, 10))
    (world.site.keys / refused).unlink()
    new = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(world.site.keys / refused)]
    subprocess.run(["rm", "-f", f"{world.site.keys / refused}.pub"], check=True)
    subprocess.run(new, check=True)
    made: Server = world.gateway(world.sshd(root))
    client = world.client(made, refused)
    answers = []
    for other in others:
        answers += [world.stat(client, refused) for _ in range(5)]
        assert world.stat(world.client(made, other), other).status_code == 200, other
    assert all(is_error(answer, 424) for answer in answers)
    assert len({answer.json()["message"] for answer in answers}) == 1
    lines = (world.folder / "sshd.log").read_text()
    assert lines.count(f"Failed publickey for {refused}") + lines.count(f"authenticating user {refused}") < 20
