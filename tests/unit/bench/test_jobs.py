"""The workloads of jobs: the statistics of Slurm's daemons, the levels of clients, and one simulated client."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from bench.measure.slurm import SlurmLoad, SlurmMeter, message_counts
from bench.workloads.lifecycle import levels
from bench.workloads.simulation import CONTENT, STEPS, Measured, Simulation

SDIAG = """Remote Procedure Call statistics by message type
\tREQUEST_JOB_USER_INFO                   ( 2039) count:8      ave_time:88128  total_time:705030
\tREQUEST_PARTITION_INFO                  ( 2009) count:22     ave_time:553    total_time:12187
\tREQUEST_SUBMIT_BATCH_JOB                ( 4003) count:23     ave_time:1693   total_time:38940
\tREQUEST_STATS_INFO                      ( 2035) count:4      ave_time:4192   total_time:4192
\tMESSAGE_EPILOG_COMPLETE                 ( 6012) count:1      ave_time:207    total_time:207

Remote Procedure Call statistics by user
\tfireuser        (    1001) count:10080  ave_time:3493   total_time:35215548
"""


def test_messages_are_counted_by_type_and_not_by_user() -> None:
    assert message_counts(SDIAG)["REQUEST_JOB_USER_INFO"] == 8
    assert sum(message_counts(SDIAG).values()) == 58


async def _sdiag(line: str) -> str:
    return SDIAG if line == "sdiag" else ""


def test_questions_are_the_messages_that_ask_for_jobs() -> None:
    load = asyncio.run(SlurmMeter(_sdiag, None, None).load())
    assert (load.questions, load.messages) == (8, 54)  # without those that read the statistics
    assert load.history_questions is None


def test_differences_leave_out_what_cannot_be_seen() -> None:
    before = SlurmLoad(questions=1, messages=5, controller_seconds=1.0)
    after = SlurmLoad(questions=4, messages=9, history_questions=7, controller_seconds=1.5)
    assert dict(after.since(before, "a life", 2)) == {
        "questions to slurmctld a life": 1.5,
        "messages to slurmctld a life": 2.0,
        "ms of processor a life, slurmctld": 250.0,
    }


def test_clients_rise_to_the_peak_and_fall_again() -> None:
    assert [level.clients for level in levels((1, 10, 50, 100))] == [1, 10, 50, 100, 50, 1]
    assert len({level.row for level in levels((1, 10, 50, 100))}) == 6


def simulate(states: list[str], content: bytes = CONTENT) -> tuple[Measured, list[str]]:
    """Run a client against a server that answers with those states of its job, one after the other."""
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url.path}")
        if request.url.path.endswith("/jobs"):
            return httpx.Response(201, json={"jobId": "7"})
        if request.url.path.endswith("/jobs/7"):
            state = states.pop(0)
            return httpx.Response(200, json={"jobs": [{"status": {"state": state}}] if state else []})
        return httpx.Response(200, content=content)

    async def run() -> Measured:
        measured = Measured()
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            await Simulation(http, "http://gateway", "site", "token", "/home/ann/new", poll=0.0).run(measured)
        return measured

    return asyncio.run(run()), seen


def test_client_sends_every_step_and_waits_for_the_end_of_the_job() -> None:
    measured, seen = simulate(["", "PENDING", "RUNNING", "COMPLETED"])
    assert [len(measured.seconds[step]) for step in STEPS] == [1] * len(STEPS)
    assert seen.count("GET /compute/site/jobs/7") == 4
    assert seen[-1] == "DELETE /filesystem/site/ops/rm"
    assert len(measured.whole) == 1


@pytest.mark.parametrize(
    ("states", "content", "step"), [(["FAILED"], CONTENT, "monitor"), (["COMPLETED"], b"", "results")]
)
def test_failure_is_counted_at_its_step(states: list[str], content: bytes, step: str) -> None:
    measured, _ = simulate(states, content)
    assert measured.failed == {step: 1}
    assert not measured.whole
