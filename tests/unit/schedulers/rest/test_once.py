"""Submissions over slurmrestd whose answer is lost, and those with an idempotency key."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from flamecrest.server.errors import Invalid, KeyReused, Unavailable, Upstream
from flamecrest.server.schedulers.once.submissions import is_marker
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

    def add(self, marker: str | None, user: str = "fireuser") -> None:
        row = dict(body(self._version, "job")["jobs"][0])
        self.live.append({**row, "job_id": 500 + len(self.live), "comment": marker or "", "user_name": user})

    async def _submit(self, writer: asyncio.StreamWriter) -> None:
        self.add(self._toy.asked[-1].json["job"].get("comment"))
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


async def test_a_job_with_a_comment_of_its_own_has_no_marker() -> None:
    for spec in (replace(SPEC, comment="mine"), replace(SPEC, script="#!/bin/sh\n#SBATCH --comment=mine\n")):
        async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
            queue = Queue(toy, "v0.0.42")
            await scheduler_of(client).submit(spec, soon())
            assert queue.live[0]["comment"] == "mine"
            with pytest.raises(Invalid, match="Idempotency-Key"):
                await scheduler_of(client).submit(replace(spec, idempotency_key="key"), soon())
