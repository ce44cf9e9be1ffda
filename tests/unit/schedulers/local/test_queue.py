"""The queue of the local scheduler: limits, order, arrays, dependencies, and changes of jobs."""

from __future__ import annotations

import time

import pytest

from flamecrest.server.errors import Conflict, Invalid, NotFound
from flamecrest.server.schedulers.values import (
    ArrayRequest,
    Dependency,
    DependencyKind,
    JobAction,
    JobChange,
    Resources,
    WarningSignal,
)

from .conftest import SLEEP, Machine, soon

pytestmark = pytest.mark.anyio
WHOLE = Resources(exclusive=True)


def after(kind: DependencyKind, *job_ids: str) -> list[Dependency]:
    return [Dependency(kind, job_ids)]


async def test_jobs_wait_for_cpus_in_order_of_priority(machine: Machine):
    first = await machine.submit(SLEEP, resources=WHOLE)
    low = await machine.submit(SLEEP, resources=Resources(tasks=2, cpus_per_task=2))
    high = await machine.submit(SLEEP, priority=5)
    small = await machine.submit(SLEEP)
    await machine.until(first, "RUNNING")
    reasons = [(await machine.job(one)).reason for one in (low, high, small)]
    assert reasons == ["Priority", "Resources", "Priority"]
    [node] = await machine.scheduler.nodes(soon())
    assert (node.states, node.cpus, node.allocated_cpus, node.idle_cpus) == (("ALLOCATED",), 4, 4, 0)
    await machine.scheduler.cancel(first, soon())
    await machine.until(high, "RUNNING")
    jobs = await machine.jobs()
    assert (jobs[low].state, jobs[small].state, jobs[low].cpus) == ("PENDING", "PENDING", 4)


async def test_a_job_sees_what_it_was_given(machine: Machine):
    script = '#!/bin/sh\necho "$FLAMECREST_JOB_ID $FLAMECREST_CPUS $FLAMECREST_TASKS $FLAMECREST_MEMORY '
    script += '$OMP_NUM_THREADS $LOGIN $PWD"\necho wrong >&2\n'
    wanted = Resources(tasks=2, cpus_per_task=2, memory_per_cpu=10)
    paths = {"standard_output": "out-%j-%x", "standard_error": "err"}
    job_id = await machine.submit(script, resources=wanted, name="a/b", **paths)
    assert (await machine.until(job_id)).state == "COMPLETED"
    assert (machine.home / f"out-{job_id}-a_b").read_text() == f"{job_id} 4 2 40 2 yes {machine.home}\n"
    assert (machine.home / "err").read_text() == "wrong\n"


async def test_variables_are_the_jobs_alone(machine: Machine):
    """In another home would be another queue, beside the limits of this one."""
    (machine.home / "other").mkdir()
    env = {
        "HOME": f"{machine.home}/other",
        "PATH": "/nonexistent",
        "LD_PRELOAD": "",
        "PERL5OPT": "-Mnone",
        "LOGIN": "é\n",
    }
    job_id = await machine.submit('#!/bin/sh\necho "$HOME $PATH $PERL5OPT $LOGIN"\n', env=env, standard_output="out")
    assert (await machine.until(job_id)).state == "COMPLETED"
    assert (machine.home / "out").read_text() == f"{env['HOME']} /nonexistent -Mnone é\n\n"
    assert list((machine.home / "other").iterdir()) == []


async def test_time_limit_ends_all_processes_of_a_job(machine: Machine):
    """The script ignores SIGTERM, and leaves a process in another session, whose parent has ended."""
    script = "#!/bin/sh\ntrap '' TERM\n(setsid sh -c 'trap \"\" TERM; echo $$ > left; while :; do sleep 1; done' &)\n"
    script += "while :; do sleep 1; done\n"
    job_id = await machine.submit(script, time_limit=3600)
    left = await machine.until_file("left")
    await machine.scheduler.change(job_id, JobChange(time_limit=1), soon())
    job = await machine.until(job_id)
    assert (job.state, job.reason, job.times.limit) == ("TIMEOUT", "TimeLimit", 1)
    assert not (machine.home / "/proc" / left).exists()


async def test_processes_that_a_script_leaves_are_ended(machine: Machine):
    script = "#!/bin/sh\n(setsid sh -c 'echo $$ > left; exec sleep 300' &)\nwhile ! test -s left; do sleep 0.02; done\n"
    assert (await machine.until(await machine.submit(script))).state == "COMPLETED"
    left = await machine.until_file("left")
    assert not (machine.home / "/proc" / left).exists()


async def test_memory_limit(machine: Machine):
    script = "#!/usr/bin/perl\nmy $x = 'a' x 200e6; sleep 300;\n"
    job = await machine.until(await machine.submit(script, resources=Resources(memory=50)))
    assert (job.state, job.reason, job.memory) == ("OUT_OF_MEMORY", "OutOfMemory", 50)
    assert job.usage is not None
    assert (job.usage.max_memory or 0) > 50


async def test_signal_before_the_time_limit(machine: Machine):
    script = "#!/bin/sh\ntrap 'exit 7' USR1\nwhile :; do sleep 0.05; done\n"
    job_id = await machine.submit(script, time_limit=3600, signal=WarningSignal("USR1", 3599))
    job = await machine.until(job_id)
    assert (job.exit_code, job.signal) in {(7, 0), (0, 10)}  # the second if it came before the trap


async def test_dependencies(machine: Machine):
    good, bad = await machine.submit(hold=True), await machine.submit("#!/bin/sh\nexit 3\n", hold=True)
    ok = await machine.submit(dependencies=after(DependencyKind.AFTER_OK, good))
    never = await machine.submit(dependencies=after(DependencyKind.AFTER_OK, good, bad))
    failed = await machine.submit(dependencies=after(DependencyKind.AFTER_NOT_OK, bad))
    either = await machine.submit(dependencies=after(DependencyKind.AFTER_ANY, bad, good))
    assert [(await machine.job(one)).reason for one in (good, ok, failed)] == ["JobHeldUser", *["Dependency"] * 2]
    for one in (good, bad):
        await machine.scheduler.act(one, JobAction.RELEASE, soon())
    assert [(await machine.until(one)).state for one in (ok, failed, either)] == ["COMPLETED"] * 3
    assert (await machine.job(never)).reason == "DependencyNeverSatisfied"
    await machine.scheduler.change(never, JobChange(dependencies=()), soon())
    assert (await machine.until(never)).state == "COMPLETED"


async def test_singletons_run_one_after_the_other(machine: Machine):
    first = await machine.submit(hold=True, name="one")
    second = await machine.submit(name="one", dependencies=[Dependency(DependencyKind.SINGLETON)])
    other = await machine.submit(name="two", dependencies=[Dependency(DependencyKind.SINGLETON)])
    assert (await machine.until(other)).state == "COMPLETED"
    assert (await machine.job(second)).reason == "Dependency"
    await machine.scheduler.cancel(first, soon())
    assert (await machine.until(second)).state == "COMPLETED"


async def test_dependencies_that_cannot_be(machine: Machine):
    first = await machine.submit(hold=True)
    second = await machine.submit(dependencies=after(DependencyKind.AFTER_OK, first))
    with pytest.raises(Invalid, match="dependencies: Job not found: 99"):
        await machine.submit(dependencies=after(DependencyKind.AFTER_OK, "99"))
    with pytest.raises(Invalid, match="would wait for itself"):
        change = JobChange(dependencies=after(DependencyKind.AFTER_ANY, second))
        await machine.scheduler.change(first, change, soon())


async def test_an_array_runs_some_elements_at_a_time(machine: Machine):
    script = "#!/bin/sh\nwhile ! test -e go; do sleep 0.05; done\nexit $((FLAMECREST_ARRAY_INDEX / 5))\n"
    job_id = await machine.submit(script, array=ArrayRequest("1-5", 2))
    await machine.until(f"{job_id}_2", "RUNNING")
    jobs = await machine.jobs()
    assert {name: job.state for name, job in jobs.items()} == {
        f"{job_id}_1": "RUNNING",
        f"{job_id}_2": "RUNNING",
        f"{job_id}_[3-5%2]": "PENDING",
    }
    assert jobs[f"{job_id}_[3-5%2]"].reason == "JobArrayTaskLimit"
    await machine.scheduler.cancel(f"{job_id}_4", soon())
    (machine.home / "go").touch()
    assert (await machine.until(job_id)).state == "FAILED"
    states = [(await machine.job(f"{job_id}_{n}")).state for n in range(1, 6)]
    assert states == ["COMPLETED", "COMPLETED", "COMPLETED", "CANCELLED", "FAILED"]
    assert (machine.home / f"job-{job_id}_5.out").exists()
    with pytest.raises(NotFound):
        await machine.job(f"{job_id}_6")


async def test_an_array_of_ten_thousand_elements(machine: Machine):
    job_id = await machine.submit(array=ArrayRequest("0-9999"), hold=True)
    assert list(await machine.jobs()) == [f"{job_id}_[0-9999]"]
    await machine.scheduler.act(f"{job_id}_[7,9]", JobAction.RELEASE, soon())
    assert [(await machine.until(f"{job_id}_{n}")).state for n in (7, 9)] == ["COMPLETED"] * 2
    await machine.scheduler.cancel(job_id, soon())
    assert (await machine.job(job_id)).state == "CANCELLED"
    with pytest.raises(Invalid, match="You may have 10000 jobs"):
        await machine.submit(array=ArrayRequest("0-10000"))


async def test_suspend_and_resume(machine: Machine):
    # A shell that is stopped while it starts a program (vfork) is shown as D, not T: this one has started all.
    script = "#!/bin/sh\ntrap 'exit 7' USR1\nsleep 300 &\necho $$ > pid\nwhile :; do wait; done\n"
    job_id = await machine.submit(script)
    pid = await machine.until_file("pid")
    for _ in range(2):
        await machine.scheduler.act(job_id, JobAction.SUSPEND, soon())
    assert (await machine.job(job_id)).state == "SUSPENDED"
    deadline = soon()
    while (machine.home / f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert deadline.left() > 0
    for _ in range(2):
        await machine.scheduler.act(job_id, JobAction.RESUME, soon())
    await machine.scheduler.signal(job_id, "USR1", soon())
    assert (await machine.until(job_id)).exit_code == 7


async def test_a_job_that_runs_is_requeued(machine: Machine):
    script = "#!/bin/sh\ntest -e again && exec echo run $FLAMECREST_RESTARTS\n"
    script += "touch again\necho run $FLAMECREST_RESTARTS\nsleep 300\n"
    job_id = await machine.submit(script)
    await machine.until_file(f"job-{job_id}.out")
    await machine.scheduler.act(job_id, JobAction.REQUEUE, soon())
    assert (await machine.until(job_id)).state == "COMPLETED"
    written = (machine.home / f"job-{job_id}.out").read_text().splitlines()
    runs = [line for line in written if line != "Terminated"]  # the shell may write that
    assert runs == ["run 0", "run 1"]


async def test_changes(machine: Machine):
    job_id = await machine.submit(SLEEP, begin=int(time.time()) + 3600)
    change = JobChange(name="a b\u00e9%", priority=3, time_limit=60, comment="why not")
    await machine.scheduler.change(job_id, change, soon())
    job = await machine.job(job_id)
    assert (job.name, job.priority, job.times.limit, job.comment) == ("a b\u00e9%", 3, 60, "why not")
    assert (job.reason, job.state) == ("BeginTime", "PENDING")
    await machine.scheduler.change(job_id, JobChange(begin=1), soon())
    await machine.until(job_id, "RUNNING")
    await machine.scheduler.change(job_id, JobChange(time_limit=1), soon())
    assert (await machine.until(job_id)).state == "TIMEOUT"


async def test_what_the_state_of_a_job_forbids(machine: Machine):
    waiting, ended = await machine.submit(hold=True), await machine.submit()
    await machine.until(ended)
    for action in JobAction:
        with pytest.raises(Conflict, match="The job has ended"):
            await machine.scheduler.act(ended, action, soon())
    for action in (JobAction.REQUEUE, JobAction.SUSPEND, JobAction.RESUME):
        with pytest.raises(Conflict, match="The job does not run"):
            await machine.scheduler.act(waiting, action, soon())
    with pytest.raises(Conflict, match="The job does not run"):
        await machine.scheduler.signal(waiting, "USR1", soon())
    with pytest.raises(Conflict, match="The job has ended"):
        await machine.scheduler.change(ended, JobChange(name="x"), soon())
    with pytest.raises(Invalid, match="signal"):
        await machine.scheduler.signal(waiting, "NOSUCH", soon())


async def test_limits_of_time(machine: Machine):
    limited = machine.with_limits(longest_time_limit=100, memory_per_job=5)
    with pytest.raises(Invalid, match="timeLimit: The longest time limit is 100 seconds"):
        await limited.submit(time_limit=101)
    job = await limited.job(await limited.submit(SLEEP))
    assert (job.times.limit, job.memory) == (100, 5)


async def test_check_changes_nothing(machine: Machine):
    found = await machine.scheduler.check(machine.spec(resources=Resources(tasks=3)), soon())
    assert (found.cpus, found.partition, found.start is not None) == (3, "local", True)
    assert not (machine.home / ".local").exists()
    assert await machine.jobs() == {}
