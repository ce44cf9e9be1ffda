"""The merge of live and history: no job is lost or listed twice, and no state goes backwards."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.merging import JobRecord, merge
from flamecrest.server.schedulers.values import Job, JobStep, JobTimes, Stage

WORDS = {Stage.WAITING: "PENDING", Stage.RUNNING: "RUNNING", Stage.ENDED: "COMPLETED"}


def record(
    job_id: str, stage: Stage, *, submit: int | None = 100, steps: tuple[JobStep, ...] = (), **more
) -> JobRecord:
    base, _, element = job_id.partition("_")
    elements = ArrayElements.parse(element.strip("[]")) if element else None
    times = JobTimes(submit=submit, end=200 if stage is Stage.ENDED else None)
    job = Job(job_id, more.pop("name", "job"), more.pop("state", WORDS[stage]), stage, times=times, steps=steps)
    return JobRecord(job, base, elements=elements, **more)


def shown(live, history) -> dict[str, str]:
    return {one.job.id: one.job.state for one in merge(live, history)}


def test_live_is_believed_and_history_adds_its_steps():
    done, open_ = JobStep("1.0", "a", "COMPLETED", times=JobTimes(end=150)), JobStep("1.batch", "batch", "RUNNING")
    live = record("1", Stage.RUNNING, name='say "hi"')
    past = record("1", Stage.RUNNING, name="say `hi`", steps=(open_, done))
    (one,) = merge([live], [past])
    assert (one.job.name, one.job.steps) == ('say "hi"', (open_, done))


def test_a_record_to_which_the_history_adds_nothing_is_kept():
    waiting = record("1", Stage.WAITING)
    (one,) = merge([waiting], [record("1", Stage.WAITING)])
    assert one is waiting
    (one,) = merge([waiting], [record("1", Stage.WAITING, raw_id="4711")])
    assert (one.job, one.raw_id) == (waiting.job, "4711")


def test_a_job_that_has_ended_has_no_running_step():
    done, open_ = JobStep("1.0", "a", "COMPLETED", times=JobTimes(end=150)), JobStep("1.batch", "batch", "RUNNING")
    (one,) = merge([record("1", Stage.ENDED)], [record("1", Stage.RUNNING, steps=(open_, done))])
    assert (one.job.state, one.job.steps) == ("COMPLETED", (done,))


def test_the_history_may_know_the_end_first():
    completing = record("1", Stage.RUNNING, name='say "hi"')
    (one,) = merge([completing], [record("1", Stage.ENDED, state="FAILED", name="say `hi`")])
    assert (one.job.state, one.job.name) == ("FAILED", 'say "hi"')


def test_an_end_without_an_exit_code_is_not_told_before_the_live_scheduler_knows_it():
    past = record("1", Stage.ENDED, state="FAILED")
    past = replace(past, job=replace(past.job, signal=0))
    assert shown([record("1", Stage.RUNNING)], [past]) == {"1": "RUNNING"}
    live = record("1", Stage.ENDED, state="FAILED")
    (one,) = merge([replace(live, job=replace(live.job, exit_code=3, signal=0))], [past])
    assert (one.job.state, one.job.exit_code) == ("FAILED", 3)
    assert shown([], [past]) == {"1": "FAILED"}
    assert shown(None, [past]) == {"1": "FAILED"}


def test_a_requeued_job_is_not_over():
    old = record("1", Stage.ENDED, state="NODE_FAIL", steps=(JobStep("1.batch", "batch", "CANCELLED"),))
    completing = record("1", Stage.RUNNING, restarts=1)
    waiting = record("1", Stage.WAITING, submit=200, restarts=1)
    assert shown([completing], [old]) == {"1": "RUNNING"}
    assert shown([waiting], [old]) == {"1": "PENDING"}
    assert merge([waiting], [old])[0].job.steps == ()


def test_a_placeholder_is_never_told_beside_live():
    placeholder = record("1", Stage.WAITING, placeholder=True, steps=(JobStep("1.batch", "batch", "RUNNING"),))
    (one,) = merge([record("1", Stage.RUNNING)], [placeholder])
    assert (one.job.state, len(one.job.steps)) == ("RUNNING", 1)
    assert merge([], [placeholder]) == []
    assert [one.placeholder for one in merge(None, [placeholder])] == [True]


def test_elements_are_told_once():
    live = [record("7_[3-5%2]", Stage.WAITING), record("7_2", Stage.RUNNING)]
    history = [record("7_[2-5%2]", Stage.WAITING), record("7_1", Stage.ENDED), record("7_2", Stage.RUNNING)]
    assert list(shown(live, history)) == ["7_1", "7_2", "7_[3-5%2]"]


def test_elements_that_live_has_forgotten_stay():
    live = [record("7_3", Stage.RUNNING)]
    history = [record("7_[0-2,3,9]", Stage.ENDED, state="CANCELLED"), record("7_3", Stage.RUNNING)]
    assert shown(live, history) == {"7_[0-2,9]": "CANCELLED", "7_3": "RUNNING"}


def test_oldest_first_and_elements_in_order():
    jobs = [record(job_id, Stage.ENDED, submit=at) for job_id, at in (("9", 1), ("10", 1), ("8", 2), ("x", 0))]
    elements = [record("7_10", Stage.ENDED), record("7_9", Stage.ENDED)]
    assert list(shown(jobs + elements, [])) == ["x", "9", "10", "8", "7_9", "7_10"]


def test_what_one_source_lacks_the_other_fills_in():
    times = JobTimes(submit=100, suspended=7)
    past = record("1", Stage.ENDED)
    past = replace(past, raw_id="1", job=replace(past.job, times=times, kill_request_user="ann"))
    (one,) = merge([record("1", Stage.ENDED)], [past])
    assert (one.job.times.suspended, one.job.kill_request_user, one.raw_id) == (7, "ann", "1")


stages = st.sampled_from(Stage)
ids = st.sampled_from(["1", "2", "3_0", "3_1", "3_2"])
groups = st.sets(st.integers(0, 5), min_size=2).map(lambda some: f"3_[{','.join(map(str, sorted(some)))}]")
records = st.lists(
    st.builds(record, st.one_of(ids, groups), stages, submit=st.sampled_from([None, 100, 200])),
    max_size=6,
    unique_by=lambda one: one.job.id,
)
sources = st.one_of(st.none(), records)


def known(*sources_) -> set[tuple[str, int | None]]:
    """Every job, and every element of every array, that a source knows."""
    every = [one for source in sources_ for one in source or ()]
    elements = {
        (one.base_id, number) for one in every if one.elements for number in range(10) if number in one.elements
    }
    return elements | {(one.base_id, None) for one in every if one.elements is None}


@given(sources, sources)
def test_nothing_is_lost_and_nothing_is_told_twice(live, history):
    merged = merge(live, history)
    assert known(merged) == known(live, history)
    places = [(one.base_id, number) for one in merged if one.elements for number in range(10) if number in one.elements]
    names = [one.job.id for one in merged]
    assert len(places) == len(set(places)) or live_is_twofold(live) or live_is_twofold(history)
    assert len(names) == len(set(names))


def live_is_twofold(source) -> bool:
    """Whether one source lists an element twice, alone and in a group. No scheduler does."""
    told = [number for one in source or () if one.elements for number in range(10) if number in one.elements]
    return len(told) != len(set(told))


@st.composite
def lives(draw):
    """A job's runs, each (wait, run, completing) seconds long; after each but the last it is requeued."""
    runs = draw(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=3))
    lags = draw(st.lists(st.integers(0, 5), min_size=60, max_size=60))
    return runs, lags


def seen(runs, at: int, *, live: bool) -> JobRecord | None:
    """The record of a source at a time. The history has the end when completing starts, live when it is over."""
    submit, answer = 0, None
    for number, (wait, run, completing) in enumerate(runs):
        start, end, over = submit + wait, submit + wait + run, submit + wait + run + completing
        if at < submit:
            break
        last = number == len(runs) - 1
        known_end = over if live else end
        stage = Stage.WAITING if at < start else Stage.RUNNING if at < known_end else Stage.ENDED
        restarts = number + (live and at >= end and not last)
        answer = record("1", stage, submit=submit, restarts=restarts if live else 0)
        if live and stage is Stage.ENDED and not last:
            answer = record("1", Stage.WAITING, submit=over, restarts=number + 1)
        submit = over
    return answer


@given(lives())
def test_a_state_never_goes_backwards(life):
    runs, lags = life
    view, before = -1, (-1, Stage.WAITING)
    for at, lag in enumerate(lags):
        view = max(view, at - lag)  # a database that catches up, but never forgets what it knew
        live, past = seen(runs, at, live=True), seen(runs, view, live=False)
        merged = merge([live] if live else [], [past] if past else [])
        assert len(merged) == 1
        now = (merged[0].job.times.submit or 0, merged[0].stage)
        assert now >= before
        before = now
    assert before[1] is Stage.ENDED
