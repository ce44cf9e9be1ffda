"""Questions to the accounting about many jobs by their ids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.errors import Invalid
from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.slurm.rest.reader import FEW, TOGETHER, RestReader

from .toy_slurmrestd import VERSIONS, ToySlurmrestd, body, client_of, slurmrestd, soon

pytestmark = pytest.mark.anyio

IDS = tuple(str(number) for number in range(5000, 5000 + TOGETHER + 20))
PARTS = (IDS[:TOGETHER], IDS[TOGETHER:])


def target(version: str, ids: tuple[str, ...]) -> str:
    """The question about several jobs, as the slurmrestd of this version takes it."""
    parameters = f"step={'%2C'.join(ids)}" if version == "v0.0.38" else "&".join(f"step={one}" for one in ids)
    return f"GET /slurmdb/{version}/jobs?{parameters}"


def know(toy: ToySlurmrestd, version: str, *known: str) -> None:
    """The accounting has these jobs and no others."""

    def rows(ids: tuple[str, ...]) -> tuple[int, bytes]:
        row: dict[str, Any] = body(version, "slurmdb-job")["jobs"][0]
        return 200, json.dumps({"jobs": [row | {"job_id": int(one)} for one in ids if one in known]}).encode()

    toy.answers |= {target(version, part): rows(part) for part in PARTS}
    toy.answers |= {f"GET /slurmdb/{version}/job/{one}": rows((one,)) for one in IDS}


@pytest.mark.parametrize("version", VERSIONS)
async def test_many_jobs_are_asked_for_together(version: str) -> None:
    async with slurmrestd() as toy, client_of(toy, version) as client:
        know(toy, version, "5001", "5119")
        reader = RestReader(client, Identity("fireuser"))
        found = await reader.history(JobQuery(job_ids=IDS), soon())
        assert [record.base_id for record in found.records] == ["5001", "5119"]
        assert len(toy.asked) == (len(IDS) if version == "v0.0.40" else len(PARTS)), "23.11 was not tried"
        toy.asked.clear()
        found = await reader.history(JobQuery(job_ids=IDS[:FEW]), soon())
        assert [record.base_id for record in found.records] == ["5001"]
        assert sorted(asked.target.rpartition("/")[2] for asked in toy.asked) == list(IDS[:FEW])


async def test_a_question_that_fails_is_no_empty_answer() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.45") as client:
        know(toy, "v0.0.45", "5001")
        toy.answers[target("v0.0.45", PARTS[1])] = 500, json.dumps({"errors": [{"error_number": 9000}]}).encode()
        with pytest.raises(Invalid):
            await RestReader(client, Identity("fireuser")).history(JobQuery(job_ids=IDS), soon())
