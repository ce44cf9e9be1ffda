"""Submissions are broken off between the request and the answer, and repeated as clients do: each job is there once."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from . import faults
from .fault_world import World
from .faults import Sshd, until
from .process import Server

USER = "user04"  # no other test uses it
LONGEST = 90  # seconds in which a repeated request must have succeeded


class Breaker:
    """A gateway over an SSH server of its own, either of which can be broken while a request is under way."""

    def __init__(self, world: World) -> None:
        self.world = world
        suite = os.environ.get("SUITE", "")  # the centre in a chroot
        self.root = Path(os.environ.get("CHROOTS") or "/var/cache/flamecrest-centres", suite) if suite else Path("/")
        self.sshd: Sshd = world.sshd(self.root)
        self.server: Server = world.gateway(self.sshd, scheduler=8)

    def folder(self) -> Path:
        """A new folder for the files that the jobs write, as this process sees it."""
        here = self.root / f"{self.world.site.home(USER)}/once-{secrets.token_hex(4)}".lstrip("/")
        here.mkdir()
        here.chmod(0o777)
        return here

    def job(self, here: Path, number: int) -> dict[str, Any]:
        """A job that writes its id into a file of its name; a third of them have a comment of their own."""
        folder, name = f"{self.world.site.home(USER)}/{here.name}", f"{here.name}-{number}"
        job = {
            "name": name,
            "workingDirectory": folder,
            "standardOutput": "/dev/null",
            "script": f"#!/bin/sh\necho $SLURM_JOB_ID >> {folder}/{name}\n",
            "account": self.world.site.account,
        }
        return {**job, "comment": "mine"} if number % 3 == 2 else job

    def cut(self) -> None:
        """The connections break; the programs on the login node go on."""
        self.sshd.cut()

    def login_node(self) -> None:
        """The SSH server ends, and starts again."""
        self.sshd.stop()
        self.sshd.start()

    def gateway(self) -> None:
        """The gateway is killed; another one takes its place."""
        os.kill(self.server.pid, 9)
        self.server = self.world.gateway(self.sshd, scheduler=8)

    def hung_controller(self) -> None:
        with faults.stopped(faults.pid_of("slurmctld")):
            time.sleep(2)

    def ended_controller(self) -> None:
        """Ended in an orderly way: slurmctld that is killed forgets the jobs that it has accepted last."""
        with faults.ended("slurmctld"):
            pass

    def submit(self, job: dict[str, Any], key: str | None, fault: Callable[[], None], delay: float) -> str:
        """Submit a job, cause the fault meanwhile, and repeat the request until it succeeds. Returns the job's id."""
        breaking = threading.Timer(delay, fault)
        breaking.start()
        end = time.monotonic() + LONGEST
        while True:
            try:
                answer = self._post({"job": job}, key)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 201:
                breaking.join()
                return str(answer.json()["jobId"])
            assert answer is None or answer.status_code in {408, 409, 424, 503}, answer.text
            assert time.monotonic() < end, answer and answer.text
            time.sleep(0.3)

    def submit_many(self, jobs: list[dict[str, Any]], key: str, fault: Callable[[], None], delay: float) -> list[str]:
        """The same for jobs in one request: it is repeated until each has an id."""
        breaking = threading.Timer(delay, fault)
        breaking.start()
        end = time.monotonic() + LONGEST
        while True:
            try:
                answer = self._post({"jobs": jobs}, key, f"{self.world.jobs.removesuffix('jobs')}bulk/submit")
            except httpx.TransportError:
                answer = None
            found = answer.json()["results"] if answer is not None and answer.status_code == 200 else []
            if found and all(one["jobId"] for one in found):
                breaking.join()
                return [one["jobId"] for one in found]
            assert time.monotonic() < end, answer and answer.text
            time.sleep(0.3)

    def _post(self, body: dict[str, Any], key: str | None, path: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.world.issuer.mint(USER)}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        url = f"{self.server.url}{path or self.world.jobs}"
        return httpx.post(url, json=body, headers=headers, timeout=40, trust_env=False)


def break_and_count(world: World, rounds: Sequence[tuple[str, bool]]) -> None:
    """One submission for each kind of fault, with a key or without, and the count of the jobs that came of them."""
    breaker = Breaker(world)
    here = breaker.folder()
    answered: dict[str, str] = {}
    for number, (kind, keyed) in enumerate(rounds):
        job = breaker.job(here, number)
        fault, key = getattr(breaker, kind), f"key-{job['name']}" if keyed else None
        answered[job["name"]] = breaker.submit(job, key, fault, number % 12 * 0.01)
    count(breaker, here, answered)


def count(breaker: Breaker, here: Path, answered: dict[str, str]) -> None:
    """Wait until the jobs with these names and ids have run; each must have run once, and no other."""
    until(lambda: all((here / name).exists() for name in answered), "all jobs have run", LONGEST)
    until(lambda: not listed(breaker, here.name, "squeue"), "no job waits or runs", LONGEST)
    ran = {name: (here / name).read_text().split() for name in answered}
    assert ran == {name: [job_id] for name, job_id in answered.items()}
    until(lambda: len(listed(breaker, here.name, "sacct")) >= len(answered), "the accounting has them", LONGEST)
    assert sorted(listed(breaker, here.name, "sacct")) == sorted(answered)


def listed(breaker: Breaker, prefix: str, program: str) -> list[str]:
    """The names of the jobs that a program of Slurm lists."""
    inside = [] if breaker.root == Path("/") else ["chroot", str(breaker.root)]
    options = {
        "squeue": ["squeue", "--noheader", f"--user={USER}", "--format=%j"],
        "sacct": ["sacct", "--noheader", "--allocations", f"--user={USER}", "--parsable2", "--format=JobName"],
    }
    done = subprocess.run([*inside, *options[program]], check=True, capture_output=True, text=True, timeout=60)
    return [line for line in done.stdout.splitlines() if line.startswith(prefix)]


@pytest.mark.timeout(300)
def test_broken_submissions_are_jobs_once(world: World) -> None:
    break_and_count(world, [("cut", True), ("cut", False), ("gateway", True), ("login_node", False), ("cut", False)])


@pytest.mark.timeout(300)
def test_broken_bulk_submissions_are_jobs_once(world: World) -> None:
    breaker = Breaker(world)
    here = breaker.folder()
    answered: dict[str, str] = {}
    for round_, (fault, delay) in enumerate(((breaker.cut, 0.15), (breaker.gateway, 0.3))):
        jobs = [breaker.job(here, 20 * round_ + number) for number in range(12)]
        ids = breaker.submit_many(jobs, f"key-{here.name}-{round_}", fault, delay)
        answered |= {job["name"]: job_id for job, job_id in zip(jobs, ids, strict=True)}
    count(breaker, here, answered)


@pytest.mark.exhaustive
@pytest.mark.timeout(1500)
@pytest.mark.skipif(
    any(name.startswith("FLAMECREST_LIVE_") for name in os.environ), reason="another site than tests/live/centre"
)
def test_a_hundred_broken_submissions_are_jobs_once(world: World) -> None:
    kinds = [
        *[("cut", True), ("cut", False), ("login_node", True), ("login_node", False), ("gateway", True)] * 2,
        *[("hung_controller", True), ("hung_controller", False), ("ended_controller", True)],
    ]
    try:
        break_and_count(world, [kinds[number % len(kinds)] for number in range(100)])
    finally:
        faults.up()
