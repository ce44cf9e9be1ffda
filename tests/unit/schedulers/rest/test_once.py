"""Submissions over slurmrestd whose answer is lost, and those with an idempotency key."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from flamecrest.server.errors import Invalid, KeyReused, Unavailable, Upstream
from flamecrest.server.schedulers.once.marked_paths import marker_in
from flamecrest.server.schedulers.once.submissions import is_marker
from flamecrest.server.schedulers.slurm.rest.jobs import parse_history
from flamecrest.server.schedulers.values import JobSpec

from .toy_slurmrestd import VERSIONS, ToySlurmrestd, body, client_of, scheduler_of, slurmrestd, soon

pytestmark = pytest.mark.anyio

SPEC = JobSpec("/home/fireuser", script="#!/bin/bash\ntrue\n")
NOW = 1_795_853_800


class Queue:
    """The live jobs of a toy slurmrestd, and those of its accounting. `loses`: submissions are not answered."""

    def __init__(self, toy: ToySlurmrestd, version: str, *, loses: bool = False) -> None:
        self._toy = toy
        self._version = version
        self._loses = loses
        self.live: list[dict[str, Any]] = []
        self.past: list[dict[str, Any]] = []
        toy.answers[f"POST /slurm/{version}/job/submit"] = self._submit
        toy.answers[f"GET /slurm/{version}/jobs"] = self._list
        user = "&users=fireuser" if version != "v0.0.38" else ""
        self.accounting = f"GET /slurmdb/{version}/jobs?start_time=uts{NOW - 172800}{user}"
        toy.answers[self.accounting] = self._records

    def add(self, comment: str | None, folder: str = SPEC.working_directory) -> None:
        row = dict(body(self._version, "job")["jobs"][0])
        row |= {"job_id": 500 + len(self.live), "comment": comment or "", "user_name": "fireuser"}
        self.live.append(row | {"current_working_directory": folder})

    async def _submit(self, writer: asyncio.StreamWriter) -> None:
        job = self._toy.asked[-1].json["job"]
        self.add(job.get("comment"), job["current_working_directory"])
        if not self._loses:
            await self._answer(writer, {"job_id": self.live[-1]["job_id"]})

    async def _list(self, writer: asyncio.StreamWriter) -> None:
        await self._answer(writer, {"jobs": self.live})

    async def _records(self, writer: asyncio.StreamWriter) -> None:
        await self._answer(writer, {"jobs": self.past})

    async def _answer(self, writer: asyncio.StreamWriter, found: dict[str, Any]) -> None:
        content = json.dumps(found).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        await writer.drain()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_job_is_found_whose_answer_was_lost(version: str) -> None:
    async with slurmrestd() as toy, client_of(toy, version) as client:
        queue = Queue(toy, version, loses=True)
        queue.add("flamecrest-aaaaaaaaaaaaaaaaaaaa-aaaaaaaa")
        assert await scheduler_of(client).submit(SPEC, soon()) == "501"
        assert is_marker(queue.live[1]["comment"])
        [shown] = [job for job in await jobs(client) if job.id == "501"]
        assert (shown.comment, shown.marker) == (None, queue.live[1]["comment"])


async def jobs(client: Any) -> list[Any]:
    scheduler = scheduler_of(client)
    return await scheduler.jobs(all_users=False, account=None, name=None, window=172800, deadline=soon())


async def test_the_marker_of_another_user_is_not_ours() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        queue = Queue(toy, "v0.0.42")
        spec = replace(SPEC, idempotency_key="key")
        assert await scheduler_of(client).submit(spec, soon()) == "500"
        queue.live[0]["user_name"] = "mallory"
        assert await scheduler_of(client).submit(spec, soon()) == "501"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_key_is_one_job(version: str) -> None:
    spec = replace(SPEC, idempotency_key="key")
    async with slurmrestd() as toy, client_of(toy, version) as client:
        queue = Queue(toy, version)
        for _ in range(2):
            assert await scheduler_of(client).submit(spec, soon()) == "500"
        with pytest.raises(KeyReused):
            await scheduler_of(client).submit(replace(spec, name="other"), soon())
        queue.past = [dict(body(version, "slurmdb-job")["jobs"][0])]
        queue.past[0] |= {"comment": {"job": queue.live[0]["comment"]}, "user": "fireuser"}
        queue.live = []
        assert await scheduler_of(client).submit(spec, soon()) == str(queue.past[0]["job_id"])
        toy.answers[queue.accounting] = 503, b"{}"
        with pytest.raises((Unavailable, Upstream), match="Nothing was submitted"):
            await scheduler_of(client).submit(replace(spec, idempotency_key="new"), soon())
        assert not queue.live


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "spec", [replace(SPEC, comment="mine"), replace(SPEC, script="#!/bin/sh\n#SBATCH --comment=mine\n")]
)
async def test_a_job_with_a_comment_of_its_own_has_its_marker_in_its_folder(version: str, spec: JobSpec) -> None:
    async with slurmrestd() as toy, client_of(toy, version) as client:
        queue = Queue(toy, version, loses=True)
        assert await scheduler_of(client).submit(spec, soon()) == "500"
        assert queue.live[0]["comment"] == "mine"
        folder = queue.live[0]["current_working_directory"]
        assert is_marker(marker_in(folder))
        [shown] = await jobs(client)
        assert (shown.comment, shown.working_directory, shown.marker) == (
            "mine",
            SPEC.working_directory,
            marker_in(folder),
        )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("comment", [None, "mine"])
async def test_a_key_finds_a_job_whose_comment_the_accounting_does_not_have(version: str, comment: str | None) -> None:
    """Slurm records comments where `AccountingStoreFlags` says so."""
    spec = replace(SPEC, idempotency_key="key", comment=comment)
    async with slurmrestd() as toy, client_of(toy, version) as client:
        queue = Queue(toy, version)
        assert await scheduler_of(client).submit(spec, soon()) == "500"
        row, folder = dict(body(version, "slurmdb-job")["jobs"][0]), queue.live[0]["current_working_directory"]
        row |= {"job_id": 500, "comment": {"job": ""}, "user": "fireuser", "working_directory": folder}
        queue.live, queue.past = [], [row]
        assert await scheduler_of(client).submit(spec, soon()) == "500"
        assert parse_history([row]).records[0].job.working_directory == SPEC.working_directory
        with pytest.raises(KeyReused):
            await scheduler_of(client).submit(replace(spec, name="other"), soon())


async def test_a_folder_without_room_for_a_marker() -> None:
    long = replace(SPEC, working_directory="/x" * 2000, comment="mine")
    async with slurmrestd() as toy, client_of(toy, "v0.0.45") as client:
        queue = Queue(toy, "v0.0.45")
        assert await scheduler_of(client).submit(long, soon()) == "500"
        assert queue.live[0]["current_working_directory"] == long.working_directory
        for wrong in (replace(long, idempotency_key="key"), replace(SPEC, working_directory="", idempotency_key="key")):
            with pytest.raises(Invalid, match="workingDirectory"):
                await scheduler_of(client).submit(wrong, soon())
        assert len(queue.live) == 1
