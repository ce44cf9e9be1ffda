"""Job lists of the CLI scheduler, over recorded output of real Slurm."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Timeout, Unavailable, Upstream
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.job_errors import AskAgain, WindowTooWide
from flamecrest.server.schedulers.merging import JobRecord
from flamecrest.server.schedulers.pbs.dialect import Pbs
from flamecrest.server.schedulers.slurm.dialect import Slurm
from flamecrest.server.schedulers.slurm.job_lists import REMEMBERED_ROWS, JobLists
from flamecrest.server.schedulers.slurm.jobs import SACCT_DETAILS, SQUEUE_DETAILS
from flamecrest.server.schedulers.values import Job
from flamecrest.server.ssh.command import Command, Output

from .recorded import RECORDED_AT, SEP, RecordedSession, both, line_of, output, recording, scheduler, soon

T = TypeVar("T")

pytestmark = pytest.mark.anyio


async def listed(session: RecordedSession, *, now: float = RECORDED_AT, **ask) -> list[Job]:
    ask = {"all_users": False, "account": None, "name": None, "window": 3600, **ask}
    return await scheduler(session, now=now).jobs(**ask, deadline=soon())


async def test_a_list_has_each_job_once_and_the_oldest_first():
    found = await listed(RecordedSession(both("list-own")))
    assert len({one.id for one in found}) == len(found) > 50
    assert [one.times.submit for one in found] == sorted(one.times.submit or 0 for one in found)
    assert {"2_0", "21+1", "72", "78_4", "89"} <= {one.id for one in found}
    assert all(one.name != "allocation" or one.partition for one in found)


@pytest.mark.parametrize("skew", [-86400, -3600, 3600])
async def test_clocks_that_differ_hide_no_job_that_has_not_ended(skew: int):
    """The gateway's clock only chooses among ended jobs; times are those of the cluster, as seconds since the epoch."""
    right = {one.id: one for one in await listed(RecordedSession(both("list-own")))}
    wrong = {one.id: one for one in await listed(RecordedSession(both("list-own")), now=RECORDED_AT + skew)}
    alive = {job_id for job_id, one in right.items() if one.times.end is None}
    assert alive <= wrong.keys()
    assert all(wrong[job_id] == right[job_id] for job_id in wrong.keys() & right.keys())


def test_every_question_about_jobs_asks_for_times_without_a_time_zone():
    slurm, query = Slurm(), JobQuery(user="ada")
    commands: list[Command[Any]] = [slurm.live(query), slurm.history(query), *slurm.marked("ada")]
    for command in (*commands, slurm.nodes(), slurm.reservations()):
        assert command.env["SLURM_TIME_FORMAT"] == "%s"
    pbs = Pbs()
    commands = [pbs.live(query), pbs.live(JobQuery(job_id="1")), pbs.reservations()]
    for command in commands:
        assert command.env["TZ"] == "UTC"


async def test_all_users():
    found = await listed(RecordedSession(both("list-all")), all_users=True, window=28800)
    assert len(found) > 50


async def test_what_the_queue_lists_is_listed_without_the_accounting():
    everything = {one.id for one in await listed(RecordedSession(both("list-own")))}
    live = await listed(RecordedSession(both("list-own"), faults={"sacct": output("dbd-down-history")}))
    assert {one.id for one in live} < everything
    assert len(live) > 10


class OldSlurm(RecordedSession):
    """A Slurm that does not know the columns of details, and does not tell which."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        self.refused: list[str] = []

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        if "AllocTRES" in str(command.argv):
            self.refused.append("sacct")
            return command.parse(Output(1, stderr=b"sacct: fatal: Invalid field requested\n"))
        if "tres-alloc" in str(command.argv):
            self.refused.append("squeue")
            return command.parse(Output(0, stderr=b"squeue: error: Invalid job format specification\n"))
        return await super().run(command, deadline)


async def test_columns_that_a_version_does_not_know_are_asked_for_once():
    session = OldSlurm([*both("list-own"), "running-live"])
    slurm = scheduler(session, details=True)
    for _ in range(2):
        found = await slurm.jobs(all_users=False, account=None, name=None, window=3600, deadline=soon())
        assert len(found) > 50
    assert sorted(session.refused) == ["sacct", "squeue"]


async def test_the_first_question_about_a_job_to_attach_to_is_asked_again_without_unknown_columns():
    session = OldSlurm(["running-live", "attach"])
    await scheduler(session, details=True).attach("72", "echo attached", soon())
    assert session.refused == ["squeue"]


def test_only_the_columns_that_a_version_does_not_know_are_left_out():
    slurm, query = Slurm(separator=lambda: SEP), JobQuery(user="fireuser")
    words = b'sacct: error: Invalid field requested: "%s"\n'
    first, second = slurm.history(query), slurm.history(query)  # of two users at the same moment
    for command in (first, second):
        with pytest.raises(AskAgain):
            command.parse(Output(1, stderr=words % b"StdOut"))  # StdErr came with the same version
    assert f"{','.join(SACCT_DETAILS[:-2])} " in f"{line_of(slurm.history(query))} "
    with pytest.raises(AskAgain):
        slurm.live(query).parse(Output(0, stderr=b"squeue: error: Invalid job format specification: tres-alloc\n"))
    assert "tres-alloc" not in line_of(slurm.live(query))
    assert all(name in line_of(slurm.live(query)) for name in SQUEUE_DETAILS if name != "tres-alloc")


def test_sacct_that_fails_without_a_message_is_asked_without_the_further_columns_once():
    slurm, query = Slurm(separator=lambda: SEP), JobQuery(user="fireuser")
    with pytest.raises(AskAgain):
        slurm.history(query).parse(Output(1))
    plain = slurm.history(query)
    assert not any(name in line_of(plain) for name in SACCT_DETAILS)
    with pytest.raises(Upstream) as caught:
        plain.parse(Output(1))
    assert not isinstance(caught.value, AskAgain)
    assert all(name in line_of(slurm.history(query)) for name in SACCT_DETAILS)


UNKNOWN_JOB = Output(1, stderr=b"slurm_load_jobs error: Invalid job id specified\n")


@pytest.mark.parametrize(
    ("squeue", "error"),
    [
        (output("ctld-down-live"), Unavailable),
        (Output(1), Upstream),
        (Output(0, stderr=b"squeue: error: boom\n"), Upstream),
        (Output(0, b"Maintenance in progress\n"), Upstream),
        (UNKNOWN_JOB, Upstream),  # none was asked for
        (Timeout("late"), Timeout),
    ],
)
async def test_a_list_without_the_queue_is_an_error(squeue, error):
    """The accounting gets jobs late, and clients take a job that is missing from a list as gone."""
    with pytest.raises(error):
        await listed(RecordedSession(both("list-own"), faults={"squeue": squeue}))


async def test_a_list_waits_for_both():
    """Clients take a job that is missing from a list as gone, so a list waits for both sources."""
    late = asyncio.Event()
    session = RecordedSession(both("list-own"), faults={"sacct": late})
    ask = scheduler(session, second_source_seconds=0.0).jobs(
        all_users=False, account=None, name=None, window=3600, deadline=soon()
    )
    asking = asyncio.create_task(ask)
    for _ in range(50):  # until live has long been told
        await asyncio.sleep(0)
    late.set()
    assert len(await asking) > 50
    assert session.cancelled == []


async def test_a_list_is_cut_at_the_deadline_and_has_the_jobs_of_the_queue():
    ask: dict[str, Any] = {"all_users": False, "account": None, "name": None, "window": 3600}
    session = RecordedSession(both("list-own"), faults={"sacct": asyncio.Event()})
    assert len(await scheduler(session).jobs(**ask, deadline=soon(0.2))) > 10
    session = RecordedSession(both("list-own"), faults={"squeue": asyncio.Event()})
    with pytest.raises(Timeout):
        await scheduler(session).jobs(**ask, deadline=soon(0.2))


async def test_account_and_name():
    found = await listed(RecordedSession(both("list-name")), account="test", name="arr")
    assert {one.name for one in found} == {"arr"}
    assert {"78_0", "78_4"} <= {one.id for one in found}


async def test_a_name_with_a_comma_is_one_name():
    found = await listed(RecordedSession(both("list-comma")), name="a,b")
    assert [(one.id, one.name) for one in found] == [("30", "a,b")]


async def test_empty_filters_are_none():
    found = await listed(RecordedSession(both("list-own")), account="", name="")
    assert len(found) > 50


async def test_jobs_of_others_are_not_own():
    session = RecordedSession(both("list-own"))
    for outputs in session.answers.values():
        outputs[0] = replace(
            outputs[0], stdout=outputs[0].stdout.replace(b"fireuser" + SEP.encode(), b"user01" + SEP.encode())
        )
    assert await listed(session) == []


async def test_what_ended_before_the_window_is_left_out():
    everything = await listed(RecordedSession(both("list-own")))
    later = await listed(RecordedSession(both("list-own")), now=RECORDED_AT + 3000)
    assert 0 < len(later) < len(everything)
    assert all((one.times.end or 0) >= RECORDED_AT + 3000 - 3600 for one in later if one.times.end)
    assert await listed(RecordedSession(both("list-own")), now=RECORDED_AT + 9999) == []


async def test_what_is_alive_is_in_every_window():
    (found,) = await listed(
        RecordedSession(faults={"squeue": output("held-live"), "sacct": Output(0)}), now=RECORDED_AT * 2
    )
    assert found.state == "PENDING"


async def test_a_row_that_cannot_be_read_is_counted_and_costs_no_other():
    counters = SchedulerCounters()
    broken = output("list-own-live")
    broken = replace(
        broken, stdout=b"noise" + SEP.encode() + b"\n" + broken.stdout.replace(b"CANCELLED", b"DRIFTING", 1)
    )
    session = RecordedSession(both("list-own"), faults={"squeue": broken})
    ask: dict[str, Any] = {"all_users": False, "account": None, "name": None, "window": 3600}
    found = await scheduler(session, counters=counters).jobs(**ask, deadline=soon())
    assert len(found) > 50
    assert counters.read() == {"live.unreadable_rows": 1, "live.unknown_states.DRIFTING": 1}


TOO_WIDE = Output(1, b"", b"sacct: error: slurmdbd: Too wide of a date range in query\n")


async def test_a_window_that_the_database_refuses_is_no_list_of_live_jobs_only():
    with pytest.raises(WindowTooWide, match="Too wide of a date range in query"):
        await listed(RecordedSession(both("list-own"), faults={"sacct": TOO_WIDE}))


def with_window(session: RecordedSession, name: str, seconds: int) -> None:
    """Answer the question for one job with that window as recorded, and refuse those with longer windows."""
    one = recording(f"{name}-history")
    session.answers[f"{one.line} --starttime=now-{seconds}seconds"] = [one.output]
    for longer in ("", *(f" --starttime=now-{days * 86400}seconds" for days in (90, 30, 7) if days * 86400 > seconds)):
        session.answers[one.line + longer] = [TOO_WIDE]


async def test_one_job_is_searched_in_a_shorter_window_then():
    session = RecordedSession(["forgotten-live"])
    with_window(session, "forgotten", 604800)
    (found,) = await scheduler(session).job("8", soon())
    assert found.state == "FAILED"


async def test_a_job_that_is_not_in_the_longest_window_may_exist():
    session = RecordedSession(["unknown-live", "unknown-cancel"])
    with_window(session, "unknown", 86400)
    with pytest.raises(Upstream, match=r"Cannot tell whether job 999999 exists.*last 1 days only"):
        await scheduler(session).job("999999", soon())
    with pytest.raises(Upstream, match="last 1 days only"):
        await scheduler(session).cancel("999999", soon())
    session = RecordedSession(["running-live"], faults={"sacct": TOO_WIDE})
    (found,) = await scheduler(session).job("72", soon())
    assert found.state == "RUNNING"


def test_rows_are_remembered_of_the_whole_queues_of_the_last_users():
    lists, printed = JobLists("", lambda: SEP, details=False), output("list-own-live")

    def records(**query: Any) -> list[JobRecord]:
        return list(lists.live(JobQuery(**query, asker=query["user"])).parse(printed).records)

    first, again, filtered = records(user="user0"), records(user="user0"), records(user="user0", name="a")
    assert first == again == filtered
    assert all(one is other for one, other in zip(first, again, strict=True))
    assert not any(one is other for one, other in zip(first, filtered, strict=True))
    for number in range(1, REMEMBERED_ROWS // len(first) + 3):
        records(user=f"user{number}")
    later = records(user="user0")
    assert later == first
    assert not any(one is other for one, other in zip(first, later, strict=True))
