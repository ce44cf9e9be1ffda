"""Jobs by the CLI scheduler over recorded output of real Slurm: commands, merged results, failures of one source."""

from __future__ import annotations

import asyncio

import pytest

from flamecrest.server.errors import (
    Busy,
    Denied,
    Invalid,
    NotFound,
    Timeout,
    TooLarge,
    Unavailable,
    Upstream,
)
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.values import Job, JobTimes
from flamecrest.server.ssh.command import Output

from .recorded import SEP, RecordedSession, both, output, scheduler, soon

pytestmark = pytest.mark.anyio


async def job(name: str, job_id: str, **faults) -> Job:
    (found,) = await scheduler(RecordedSession(both(name), faults=faults)).job(job_id, soon())
    return found


async def test_a_job_is_known_at_once():
    found = await job("lag-not-yet", "72")
    assert (found.id, found.state, found.name) == ("72", "PENDING", 'my "job" | é')


async def test_a_job_that_the_history_only_has_a_place_for():
    found = await job("lag-placeholder", "72")
    assert (found.state, found.name, found.partition) == ("RUNNING", 'my "job" | é', "debug")
    assert [step.id for step in found.steps] == ["72.batch"]


async def test_a_running_job():
    found = await job("running", "72")
    assert (found.state, found.exit_code, found.times.suspended, len(found.steps)) == ("RUNNING", 0, 0, 3)


async def test_a_finished_job():
    found = await job("done", "72")
    assert (found.state, found.exit_code, found.signal) == ("COMPLETED", 0, 0)
    assert found.times == JobTimes(1795299972, 1795299972, 1795299980, 8, 0, 600)
    assert found.name == 'my "job" | é'
    assert {step.state for step in found.steps} == {"COMPLETED", "FAILED"}


@pytest.mark.parametrize(
    ("name", "job_id", "state", "code", "signal"),
    [
        ("failed", "74", "FAILED", 7, 0),
        ("killed", "75", "FAILED", 0, 9),
        ("cancelled", "76", "CANCELLED", 0, 15),
        ("time-limit-over", "77", "TIMEOUT", 0, 15),
        ("held", "73", "PENDING", None, None),
        ("held-cancelled", "73", "CANCELLED", 0, 0),
        ("requeue-waiting", "89", "PENDING", None, None),
        ("suspended", "90", "SUSPENDED", 0, 0),
        ("forgotten", "8", "FAILED", 7, 0),
        ("array-mixed", "78", "RUNNING", 0, 0),
        ("array-done", "78", "FAILED", 1, 0),
        ("array-element-waiting", "78_11", "PENDING", None, None),
        ("array-element", "78_2", "RUNNING", 0, 0),
        ("het", "87", "RUNNING", 0, 0),
        ("het-component", "87+1", "RUNNING", 0, 0),
    ],
)
async def test_states(name, job_id, state, code, signal):
    found = await job(name, job_id)
    assert (found.id, found.state, found.exit_code, found.signal) == (job_id, state, code, signal)


async def test_who_cancelled_and_what_live_knows_better():
    found = await job("cancelled", "76")
    assert (found.kill_request_user, found.signal) == ("fireuser", 15)


async def test_an_array_tells_of_its_elements():
    found = await job("array-done", "78")
    assert [step.id for step in found.steps] == ["78_0", "78_2", "78_4", "78_6", "78_8"]
    assert {step.id: step.exit_code for step in found.steps}["78_4"] == 1


async def test_an_unknown_job():
    with pytest.raises(NotFound, match="Job not found"):
        await job("unknown", "999999")


async def test_a_hostile_id_reaches_no_command():
    session = RecordedSession()
    with pytest.raises(Invalid):
        await scheduler(session).job("1;rm -rf /", soon())
    assert session.ran == []


# when one source fails


@pytest.mark.parametrize(
    "fault",
    [
        output("dbd-down-history"),
        output("no-accounting-history"),
        Output(127, b"", b"bash: sacct: command not found\n"),
        Output(0, b"rubbish" + SEP.encode() * 60),
        Upstream("the connection was lost"),
        Busy("no slot"),
        Timeout("late"),
    ],
)
async def test_live_alone_is_enough(fault):
    found = await job("running", "72", sacct=fault)
    assert (found.state, found.steps) == ("RUNNING", ())


@pytest.mark.parametrize("fault", [output("ctld-down-live"), output("ctld-hangs-live"), Timeout("late")])
async def test_history_alone_is_enough(fault):
    found = await job("done", "72", squeue=fault)
    assert (found.state, len(found.steps), found.name) == ("COMPLETED", 3, "my `job` | é")


async def test_what_was_survived_is_counted():
    counters = SchedulerCounters()
    session = RecordedSession(both("running"), faults={"sacct": output("dbd-down-history")})
    await scheduler(session, counters=counters).job("72", soon())
    assert counters.read() == {"history.failures": 1}


async def test_a_live_answer_that_hangs_is_cut_once_the_history_has_told():
    session = RecordedSession(both("done"), faults={"squeue": asyncio.Event()})
    (found,) = await scheduler(session, second_source_seconds=0.01).job("72", soon(60))
    assert found.state == "COMPLETED"
    assert session.cancelled == ["squeue"]


async def test_a_history_that_hangs_is_cut_once_live_has_told():
    session = RecordedSession(both("running"), faults={"sacct": asyncio.Event()})
    (found,) = await scheduler(session, second_source_seconds=0.01).job("72", soon(60))
    assert (found.state, session.cancelled) == ("RUNNING", ["sacct"])


async def test_a_source_that_is_a_little_late_is_waited_for():
    late = asyncio.Event()
    session = RecordedSession(both("lag-placeholder"), faults={"squeue": late})
    asking = asyncio.create_task(scheduler(session).job("72", soon()))
    while len(session.ran) < 2:
        await asyncio.sleep(0)
    late.set()
    assert (await asking)[0].state == "RUNNING"


async def test_what_hangs_is_cut_before_the_deadline():
    """The history does not know the job yet, so the live source is waited for until shortly before the deadline."""
    session = RecordedSession(both("lag-not-yet"), faults={"squeue": asyncio.Event()})
    with pytest.raises(Timeout, match="Cannot tell whether job 72 exists"):
        await scheduler(session, second_source_seconds=0.0).job("72", soon(0.05))
    assert len(session.deadlines) == 2


async def test_both_sources_get_a_little_less_time_than_there_is():
    session, deadline = RecordedSession(both("running")), soon(3600)
    await scheduler(session).job("72", deadline)
    assert len(session.deadlines) == 2
    assert all(one.at < deadline.at for one in session.deadlines)


async def test_no_404_while_one_source_is_away():
    for name, program in (("dbd-down-history", "sacct"), ("ctld-down-live", "squeue")):
        with pytest.raises(Unavailable, match="Cannot tell whether job 999999 exists"):
            await job("unknown", "999999", **{program: output(name)})


async def test_a_placeholder_alone_is_no_answer():
    with pytest.raises(Unavailable, match="Unable to contact slurm controller"):
        await job("lag-placeholder", "72", squeue=output("ctld-down-live"))


async def test_both_away():
    down = {"squeue": output("ctld-down-live"), "sacct": output("dbd-down-history")}
    with pytest.raises(Unavailable, match="Unable to contact slurm controller"):
        await job("done", "72", **down)
    with pytest.raises(Unavailable, match="Connection refused"):
        await job("done", "72", **{**down, "squeue": Timeout("late")})
    with pytest.raises(Timeout, match="late"):
        await job("done", "72", squeue=Timeout("late"), sacct=Busy("no slot"))
    session = RecordedSession(faults={"squeue": asyncio.Event(), "sacct": asyncio.Event()})
    with pytest.raises(Timeout):
        await scheduler(session).job("72", soon(0.05))


@pytest.mark.parametrize("fault", [TooLarge("64 MiB"), Denied("no")])
async def test_an_error_that_the_other_source_cannot_make_up_for_is_told(fault):
    with pytest.raises(type(fault)):
        await job("done", "72", squeue=fault)
    with pytest.raises(TooLarge):
        await job("done", "72", sacct=TooLarge("64 MiB"))


async def test_a_history_that_the_user_may_not_read_hides_no_job_of_the_queue():
    assert (await job("done", "72", sacct=Denied("no"))).state == "COMPLETED"
    with pytest.raises(Denied, match="Cannot tell whether job 999999 exists"):
        await job("unknown", "999999", sacct=Denied("no"))


async def test_a_mistake_of_ours_is_not_hidden():
    with pytest.raises(AssertionError, match="no recording"):
        await scheduler(RecordedSession()).job("72", soon())


async def test_a_caller_that_leaves_ends_both_questions():
    session = RecordedSession(faults={"squeue": asyncio.Event(), "sacct": asyncio.Event()})
    asking = asyncio.create_task(scheduler(session).job("72", soon(60)))
    while len(session.ran) < 2:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert sorted(session.cancelled) == ["sacct", "squeue"]
