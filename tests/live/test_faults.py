"""Faults of connections, remote programs, profiles, and the issuer.

A separate sshd is used, not the centre's own. Faults of the scheduler are in test_faults_scheduler.py, and those that
last while traffic goes on in reliability/.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.issuer import Issuer

from . import faults
from .fault_world import World, is_error
from .faults import until
from .process import Server, free_port, gateway
from .site import write_settings

pytestmark = [
    pytest.mark.skipif(
        any(name.startswith("FLAMECREST_LIVE_") for name in os.environ), reason="another site than tests/live/centre"
    ),
    pytest.mark.timeout(240),
]


def in_background(ask: Callable[[], httpx.Response]) -> Callable[[], httpx.Response]:
    """Send a request in a thread; call the result to get the response."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(ask)
    pool.shutdown(wait=False)
    return lambda: future.result(120)


# --- connections


def test_lost_connection_is_replaced(world: World) -> None:
    server = world.sshd()
    client = world.client(world.gateway(server))
    for _ in range(3):
        assert world.stat(client).status_code == 200
        server.cut()
    answers = []
    for operation in ("ls", "stat", "file", "checksum"):
        path = world.site.home(world.site.user) + ("/.bashrc" if operation == "checksum" else "")
        answers.append(client.get(f"{world.ops}/{operation}", params={"path": path}))
        server.cut()
    assert [one.status_code for one in answers] == [200] * 4, [one.text[:200] for one in answers]


def test_interrupted_read_is_repeated(world: World) -> None:
    server = world.sshd()
    client = world.client(world.gateway(server, command_execution=20))
    with faults.big_file(world.site, world.site.user) as path:
        os.truncate(path, 6 * 10**8)
        answer = in_background(lambda: client.get(f"{world.ops}/checksum", params={"path": path}))
        until(lambda: faults.running(f"sha256sum -b -- {path}"), "the checksum has begun")
        cut = faults.running(f"sha256sum -b -- {path}")
        server.cut()
        until(lambda: set(faults.running(f"sha256sum -b -- {path}")) - set(cut), "it begins again")
        assert answer().status_code == 200, answer().text


def test_interrupted_write_is_not_repeated_and_leaves_no_file(world: World) -> None:
    server = world.sshd()
    client = world.client(world.gateway(server, command_execution=2))
    home = Path(world.site.home("user07"))
    client.headers["Authorization"] = f"Bearer {world.issuer.mint('user07')}"
    with faults.big_file(world.site, "user07") as path:
        before = set(home.iterdir())
        target = str(home / f"cut-{secrets.token_hex(4)}.tar.gz")
        body = {"path": path, "targetPath": target}
        answer = in_background(lambda: client.post(f"{world.ops}/compress", json=body))
        until(lambda: faults.running(target), "the archive has begun")
        cut = faults.running(target)
        server.cut()
        is_error(answer(), 424)
        # the running process may have new children; no second one was started
        ours = {*cut, *(child for pid in cut for child in faults.children(pid))}
        assert set(faults.running(target)) <= ours
        until(lambda: not faults.running(target), "the far side's own guard has ended it")
        until(lambda: set(home.iterdir()) == before, "the guard has removed the unfinished archive")
    assert world.stat(client, "user07").status_code == 200


def test_hanging_connection_is_replaced(world: World) -> None:
    """A stopped server accepts bytes and does not respond. Reads use a new connection."""
    server = world.sshd()
    client = world.client(world.gateway(server))
    assert world.stat(client).status_code == 200
    assert client.get(f"{world.ops}/ls", params={"path": world.site.home(world.site.user)}).status_code == 200
    for operation in ("stat", "ls", "file"):
        hung = server.sessions()
        assert hung
        with faults.stopped(*hung):
            answer = client.get(f"{world.ops}/{operation}", params={"path": world.site.home(world.site.user)})
            assert answer.status_code == 200, answer.text
            assert set(server.sessions()) - set(hung)
            faults.end(hung)
    body = {"path": world.site.home(world.site.user), "mode": "755"}
    assert client.put(f"{world.ops}/chmod", json=body).status_code == 200
    hung = server.sessions()
    with faults.stopped(*hung):
        # the outcome is unknown, so it is not repeated
        is_error(client.put(f"{world.ops}/chmod", json=body), 408, 424)
        assert world.stat(client).status_code == 200
        faults.end(hung)


# --- remote processes end with their request


def test_client_disconnect_ends_the_remote_process(world: World, live_gateway: Server) -> None:
    with faults.big_file(world.site, world.site.user) as path:
        headers = {"Authorization": f"Bearer {world.issuer.mint(world.site.user)}"}

        async def leave() -> None:
            client = httpx.AsyncClient(base_url=live_gateway.url, headers=headers, timeout=40, trust_env=False)
            async with client, anyio.create_task_group() as group:
                group.start_soon(lambda: client.get(f"{world.ops}/checksum", params={"path": path}))
                with anyio.fail_after(60):
                    while not faults.running(f"sha256sum -b -- {path}"):
                        await anyio.sleep(0.02)
                group.cancel_scope.cancel()

        anyio.run(leave)
        until(lambda: not faults.running(path), "the checksum's process has ended")


def test_deadline_ends_the_remote_process(world: World) -> None:
    client = world.client(world.gateway(command_execution=2))
    assert world.stat(client).status_code == 200  # the time of the login is not part of the request's
    with faults.big_file(world.site, world.site.user) as path:
        answer = in_background(lambda: client.get(f"{world.ops}/checksum", params={"path": path}))
        until(lambda: faults.running(f"sha256sum -b -- {path}"), "the checksum has begun")
        is_error(answer(), 408)
        until(lambda: not faults.running(path), "the checksum's process has ended")
        assert world.stat(client).status_code == 200


@pytest.mark.exhaustive  # seconds until the remote watchdog acts
def test_killed_gateway_leaves_no_remote_process(world: World) -> None:
    made = world.gateway(connection=1, login=1, command_execution=1)
    client = world.client(made)
    with faults.big_file(world.site, world.site.user) as path:
        answer = in_background(lambda: client.get(f"{world.ops}/checksum", params={"path": path}))
        until(lambda: faults.running(f"sha256sum -b -- {path}"), "the checksum has begun")
        os.kill(made.pid, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            answer()
        until(lambda: not faults.running(path), "the far side's own guard has ended it")


# --- profiles that print


NOISE = "NOISE-of-a-profile 4711\n"
PROFILE = f"printf '{NOISE[:-1]}\\n%.0s' 1 2 3; echo {NOISE[:-1]} >&2\n"


@contextmanager
def noisy(world: World) -> Iterator[str]:
    user = "user05"
    with faults.noisy_profile(world.site, user, PROFILE):
        yield user


@pytest.mark.parametrize("subsystem", ["sftp internal-sftp", "sftp /usr/lib/openssh/sftp-server"])
def test_noisy_profile(world: World, subsystem: str) -> None:
    """Its output appears in no response and breaks none, not even SFTP, where the login shell prints first."""
    server = world.sshd(Subsystem=subsystem)
    made = world.gateway(server, scheduler=20, command_execution=15)
    site, ops = world.site, world.ops
    with noisy(world) as user:
        client = world.client(made, user)
        folder = f"{site.home(user)}/noise-{secrets.token_hex(4)}"
        local = Path(folder)
        local.mkdir()
        faults.give(local, user)
        (local / "file").write_bytes(b"content\n")
        faults.give(local / "file", user)
        asked: dict[str, httpx.Response] = {}
        path = {"path": f"{folder}/file"}
        for operation in ("stat", "checksum", "file", "ls", "head", "tail", "view", "download"):
            asked[operation] = client.get(f"{ops}/{operation}", params=path)
        asked["chmod"] = client.put(f"{ops}/chmod", json=path | {"mode": "u+x"})
        asked["chown"] = client.put(f"{ops}/chown", json=path | {"owner": user, "group": user})
        asked["compress"] = client.post(f"{ops}/compress", json=path | {"targetPath": f"{folder}/a.tgz"})
        asked["extract"] = client.post(
            f"{ops}/extract", json={"path": f"{folder}/a.tgz", "targetPath": f"{folder}/out"}
        )
        asked["userinfo"] = client.get(f"/status/{site.system}/userinfo")
        for what in ("nodes", "partitions", "reservations"):
            asked[what] = client.get(f"/status/{site.system}/{what}")
        job = {"workingDirectory": folder, "script": "#!/bin/sh\nsleep 60\n", "account": site.account}
        asked["submit"] = client.post(world.jobs, json={"job": job})
        number = asked["submit"].json().get("jobId")
        asked["job"] = client.get(f"{world.jobs}/{number}")
        asked["jobs"] = client.get(world.jobs)
        asked["metadata"] = client.get(f"{world.jobs}/{number}/metadata")
        asked["cancel"] = client.delete(f"{world.jobs}/{number}")
        asked["rm"] = client.delete(f"{ops}/rm", params={"path": folder})
        shutil.rmtree(local, ignore_errors=True)
    wrong = [
        f"{name}: {one.status_code} {one.text[:300]}"
        for name, one in asked.items()
        if "NOISE" in one.text or one.is_error
    ]
    assert not wrong, "\n".join(wrong)
    assert number.isdecimal()
    assert asked["download"].content == b"content\n"
    assert asked["checksum"].json()["output"]["checksum"].startswith("434728a410a78f56fc1b5899c3593436")
    assert asked["file"].json()["output"] == "ASCII text"
    assert [one["name"] for one in asked["ls"].json()["output"]] == [path["path"]]
    assert asked["job"].json()["jobs"][0]["jobId"] == number


# --- the issuer


def test_issuer_that_starts_late(world: World) -> None:
    """The gateway starts without it, reports the error, and works once the issuer is up."""
    with start_blocking_portal("asyncio") as portal:
        late = portal.call(lambda: Issuer(world.site.clients(), ttl=3600, port=free_port()))
        settings = world.site.settings(late, world.folder / "secret", probing=False)
        config = write_settings(settings, world.folder / "late.yaml")
        made = world.stack.enter_context(gateway(config, world.folder / "late.log"))
        headers = {"Authorization": f"Bearer {late.mint(world.site.user)}"}
        with httpx.Client(base_url=made.url, headers=headers, timeout=30, trust_env=False) as client:
            assert httpx.get(f"{made.url}/status/liveness/").status_code == 200
            answer = world.stat(client)
            assert answer.status_code in {401, 503}, answer.text
            assert late.mint(world.site.user)[:20] not in answer.text
            portal.call(late.start)
            try:
                until(lambda: world.stat(client).status_code == 200, "tokens are accepted", 70)
            finally:
                portal.call(late.stop)
            assert world.stat(client).status_code == 200  # known keys stay cached
