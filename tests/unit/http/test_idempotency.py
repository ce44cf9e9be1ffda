"""The header `Idempotency-Key`: what it may be, and that it reaches the scheduler."""

from __future__ import annotations

import httpx
import pytest

from .world import World

pytestmark = pytest.mark.anyio

JOB = {"workingDirectory": "/tmp", "script": "#!/bin/sh\n"}
URL = "/compute/toy/jobs"
ACCEPTED = {
    "a": "a",
    "8e03978e-40d5-43e8-bc93-6894a57f9324": "8e03978e-40d5-43e8-bc93-6894a57f9324",
    '"8e03978e"': "8e03978e",
    '"a b, c"': "a b, c",
    r'"a\"b\\c"': r'a"b\c',
    "  padded  ": "padded",
    "x" * 255: "x" * 255,
    "!#$%&'()*+-./09:;<=>?@AZ[\\]^_`az{|}~": "!#$%&'()*+-./09:;<=>?@AZ[\\]^_`az{|}~",
}
REFUSED = [
    "",
    " ",
    '""',
    '"',
    '"a',
    'a"b',
    '"a"b',
    r'"a\b"',
    '"a";p=1',
    "a b",
    "a,b",
    "é",
    '"é"',
    "a\tb",
    "x" * 256,
    "\x7f",
]


@pytest.mark.parametrize("given", ACCEPTED)
async def test_a_key_reaches_the_scheduler(tmp_path, given):
    world = World(str(tmp_path))
    async with world.client() as client:
        answer = await client.post(URL, json={"job": JOB}, headers={"Idempotency-Key": given})
        assert answer.status_code == 201
        assert world.queue.specs[answer.json()["jobId"]].idempotency_key == ACCEPTED[given]
        answer = await client.post(URL, json={"job": JOB})
        assert world.queue.specs[answer.json()["jobId"]].idempotency_key is None


async def test_other_keys_are_refused(tmp_path):
    world = World(str(tmp_path))
    async with world.client() as client:
        for given in REFUSED:
            headers = httpx.Headers([(b"Idempotency-Key", given.encode("latin-1"))])
            answer = await client.post(URL, json={"job": JOB}, headers=headers)
            assert answer.status_code == 400, given
            assert [one["name"] for one in answer.json()["data"]["fields"]] == ["idempotency-key"]
        twice = httpx.Headers([("Idempotency-Key", "a"), ("Idempotency-Key", "a")])
        assert (await client.post(URL, json={"job": JOB}, headers=twice)).status_code == 400
    assert not world.queue.specs


async def test_each_job_of_a_bulk_request_has_a_key_of_its_own(tmp_path):
    world = World(str(tmp_path))
    async with world.client() as client:
        jobs = {"jobs": [JOB, JOB]}
        await client.post("/compute/toy/bulk/submit", json=jobs, headers={"Idempotency-Key": "k"})
        await client.post("/compute/toy/bulk/submit", json=jobs)
    keys = [spec.idempotency_key for spec in world.queue.specs.values()]
    assert keys == ["k\n0", "k\n1", None, None]
