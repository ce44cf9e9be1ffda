"""Operations of the CLI scheduler other than job queries, over recorded output of real Slurm."""

from __future__ import annotations

import asyncio
import re
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from flamecrest.server.errors import (
    Busy,
    Conflict,
    Denied,
    Invalid,
    NotFound,
    Timeout,
    TooLarge,
    Unavailable,
    Upstream,
)
from flamecrest.server.schedulers.slurm.dialect import Slurm
from flamecrest.server.schedulers.values import Account, JobAction, JobChange, JobMetadata, JobSpec
from flamecrest.server.ssh.command import Output

from .recorded import HOME, SEP, VERSIONS, RecordedSession, both, line_of, output, recording, scheduler, soon

pytestmark = pytest.mark.anyio


# submitting


async def test_a_job_is_submitted():
    session = RecordedSession(faults={"sbatch": output("submit-script-path")})
    spec = JobSpec(HOME, script_path="/tmp/hsconf/fail.sh")
    assert await scheduler(session).submit(spec, soon()) == "74"
    [command] = session.ran
    assert re.fullmatch(
        r"sbatch --parsable --chdir=/flamecrest-\S+ --chdir=/home/fireuser[/.]{16,32} -- \S+", line_of(command)
    )


SPEC = JobSpec(HOME, script="#!/bin/sh\n")
SEARCHED = ["marked-queue", "marked-accounting"]


async def test_a_refusal_is_told_in_the_schedulers_words():
    session = RecordedSession(faults={"sbatch": output("submit-ERR-bad-account")})
    with pytest.raises(Invalid, match="Invalid account or account/partition combination specified"):
        await scheduler(session).submit(SPEC, soon())


@pytest.mark.parametrize("fault", [Timeout("The deadline passed"), Upstream("The connection was lost")])
async def test_an_error_that_may_hide_a_submitted_job_says_so_once(fault):
    with pytest.raises(type(fault)) as caught:
        await scheduler(RecordedSession(SEARCHED, faults={"sbatch": fault})).submit(SPEC, soon())
    assert caught.value.public.startswith(fault.public)
    assert caught.value.public.count("may have been submitted") == 1
    session = RecordedSession(SEARCHED, faults={"sbatch": output("ctld-hangs-submit")})
    with pytest.raises(Timeout) as caught:
        await scheduler(session).submit(SPEC, soon())
    assert caught.value.public.count("may have been submitted") == 1


async def test_a_submission_that_prints_without_end_may_have_submitted_the_job():
    session = RecordedSession(SEARCHED, faults={"sbatch": TooLarge("It printed more than is accepted")})
    with pytest.raises(Upstream, match=r"^It printed more than is accepted\. The job may have been submitted"):
        await scheduler(session).submit(SPEC, soon())


@pytest.mark.parametrize("fault", [Busy("No slot came free"), Unavailable("down"), output("submit-ERR-no-sbatch")])
async def test_an_error_before_anything_was_submitted_does_not_say_so(fault):
    with pytest.raises((Busy, Unavailable, Upstream)) as caught:
        await scheduler(RecordedSession(faults={"sbatch": fault})).submit(SPEC, soon())
    assert "may have been submitted" not in caught.value.public


def marked_queue(*ids: str):
    """What squeue prints when jobs with these ids have the marker of the job that was submitted last."""

    def answer(session: RecordedSession) -> Output:
        marker = next(option[10:] for option in session.ran[0].argv if option.startswith("--comment="))
        row = f"{SEP}fireuser{SEP}/dev/null{SEP}{HOME}{SEP}{marker}{SEP}\n"
        return Output(0, "".join(f"{one}{row}" for one in ids).encode())

    return answer


@pytest.mark.parametrize(
    ("printed", "said", "status"),
    [
        (b"96\n12\n", b"", 0),
        (b"96\n", b"sbatch: error: Batch job submission failed: Unspecified error\n", 1),
    ],
)
async def test_a_doubtful_answer_is_decided_by_the_marker(printed, said, status):
    class Session(RecordedSession):
        async def run(self, command, deadline):
            if command.argv[0] == "squeue":
                self.faults["squeue"] = self.queue(self)
            return await super().run(command, deadline)

        queue = staticmethod(marked_queue("96"))

    session = Session(faults={"sbatch": Output(status, printed, said)})
    assert await scheduler(session).submit(SPEC, soon()) == "96"
    assert session.programs() == ["sbatch", "squeue"]


async def test_a_doubtful_answer_without_a_job_is_what_it_looks_like():
    failed = Output(1, b"1000\n", b"sbatch: error: Batch job submission failed: Invalid qos specification\n")
    with pytest.raises(Invalid, match="Invalid qos"):
        await scheduler(RecordedSession(SEARCHED, faults={"sbatch": failed})).submit(SPEC, soon())
    for fault in ({}, {"squeue": Unavailable("down")}):
        session = RecordedSession(SEARCHED, faults={"sbatch": Output(0, b"12\n96\n"), **fault})
        assert await scheduler(session).submit(SPEC, soon()) == "96"


async def test_an_id_with_the_login_nodes_own_cluster_is_shown_as_lists_show_it():
    for printed, job_id in ((b"96;cluster\n", "96"), (b"96;west\n", "96.west")):
        session = RecordedSession(["local-cluster"], faults={"sbatch": Output(0, printed)})
        assert await scheduler(session).submit(SPEC, soon()) == job_id


async def test_an_id_with_a_cluster_survives_that_the_clusters_name_is_not_to_be_had():
    for fault in (output("ctld-down-metadata"), Upstream("lost"), asyncio.Event()):
        session = RecordedSession(faults={"sbatch": Output(0, b"96;west\n"), "scontrol": fault})
        assert await scheduler(session).submit(SPEC, soon(0.05)) == "96.west"


# metadata


async def test_metadata():
    (found,) = await scheduler(RecordedSession(["live-metadata", "506-live-script"])).metadata("72", soon())
    script = '#!/bin/bash\necho "$GREETING"\nsleep 8\n'
    paths = ("/dev/null", f"{HOME}/o 72.txt", f'{HOME}/e my "job" | é.txt')
    assert found == JobMetadata("72", script, *paths, node="nid004")


async def test_metadata_of_a_forgotten_job():
    session = RecordedSession(["forgotten-metadata", "572-forgotten-script", "573-forgotten-script"])
    (found,) = await scheduler(session).metadata("8", soon())
    assert (found.script or "").endswith("exit 7\n")
    assert (found.standard_output, found.standard_error, found.standard_input) == (None, None, None)


async def test_metadata_of_an_unknown_job():
    names = ["unknown-metadata", "569-unknown-script", "570-unknown-script", *both("unknown")]
    with pytest.raises(NotFound, match="Job not found"):
        await scheduler(RecordedSession(names)).metadata("999999", soon())


@pytest.mark.parametrize("job_id", ["8_1", "8+0", "8_[1-3]"])
async def test_metadata_of_a_part_that_the_job_does_not_have(job_id):
    session = RecordedSession(faults=PARTS)
    with pytest.raises(NotFound, match="Job not found"):
        await scheduler(session).metadata(job_id, soon())


@pytest.mark.parametrize("part", [b"8_1", b"8+9"])
async def test_scontrol_does_not_find_a_part(part):
    said = Output(1, b"Job %b not found\n" % part)
    assert Slurm().metadata(part.decode()).parse(said) is None
    with pytest.raises(Upstream):
        Slurm().metadata("8").parse(Output(1, b"Job a b not found\n"))


# jobs that have ended, and parts that do not exist

GONE = Output(1, stderr=b"scancel: error: Kill job error on job id 8: Invalid job id specified\n")
PARTS: dict[str, Any] = {
    "squeue": Output(1, stderr=b"slurm_load_jobs error: Invalid job id specified\n"),
    "sacct": Output(0),
}


async def test_a_signal_to_a_job_that_has_ended():
    """24.11 and later say of it that the id is invalid."""
    session = RecordedSession(both("forgotten"), faults={"scancel": GONE})
    with pytest.raises(Conflict, match="The job has ended"):
        await scheduler(session).signal("8", "USR1", soon())
    session = RecordedSession(both("unknown"), faults={"scancel": GONE})
    with pytest.raises(NotFound, match="Job not found"):
        await scheduler(session).signal("999999", "USR1", soon())


async def test_a_change_of_a_job_that_only_the_history_knows():
    said = Output(1, stderr=b"Invalid job id specified for job 8\nslurm_suspend error: Invalid job id specified\n")
    for change in (
        lambda one: one.act("8", JobAction.HOLD, soon()),
        lambda one: one.change("8", JobChange(name="x"), soon()),
    ):
        with pytest.raises(Conflict, match="The job has ended"):
            await change(scheduler(RecordedSession(both("forgotten"), faults={"scontrol": said})))
    down: dict[str, Any] = {"scontrol": said, "squeue": Upstream("lost"), "sacct": Upstream("lost")}
    with pytest.raises(NotFound):
        await scheduler(RecordedSession(faults=down)).act("8", JobAction.HOLD, soon())


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_change_of_an_array_of_which_an_element_has_ended(version):
    """24.11 and 26.05 tell of that element alone."""
    queue, said = recording("queue-of-array-with-ended-elements", version), "change-array-with-ended-elements"
    array, change = queue.line.rpartition("=")[2], JobChange(time_limit=180)
    session = RecordedSession([queue.name], faults={"scontrol": output(said, version)}, version=version)
    await scheduler(session).change(array, change, soon())
    assert session.programs() == (["scontrol"] if version == "22.05" else ["scontrol", "squeue"])
    ended = Output(1, stderr=output(said, version).stderr.splitlines(keepends=True)[0])
    for job_id, words in ((array, output("change-ended-array", version)), (f"{array}_0", ended)):
        session = RecordedSession(faults={"scontrol": words, "squeue": queue.output})
        with pytest.raises(Conflict, match="already finished"):
            await scheduler(session).change(job_id, change, soon())


async def test_elements_that_are_not_there_are_left_out_of_a_change():
    queue = recording("queue-of-array-with-ended-elements")
    array = queue.line.rpartition("=")[2]
    for said, kind in ((f"{array}_9", None), (f"{array}_0-9", NotFound)):
        unknown = Output(1, stderr=f"{said}: Invalid job id specified\n".encode())
        session = RecordedSession(faults={"scontrol": unknown, "squeue": queue.output, "sacct": Output(0)})
        with nullcontext() if kind is None else pytest.raises(kind, match="Job not found"):
            await scheduler(session).change(f"{array}_[1-9]", JobChange(time_limit=180), soon())


async def test_nothing_is_changed_for_a_component_that_does_not_exist():
    """Slurm takes 8+1 for job 9, or for job 8."""
    for change in (
        lambda one: one.act("8+1", JobAction.HOLD, soon()),
        lambda one: one.change("8+1", JobChange(name="x"), soon()),
        lambda one: one.signal("8+1", "USR1", soon()),
        lambda one: one.cancel("8+1", soon()),
    ):
        session = RecordedSession(faults=PARTS)
        with pytest.raises(NotFound):
            await change(scheduler(session))
        assert set(session.programs()) == {"squeue", "sacct"}


async def test_metadata_without_the_controller():
    faults = {"scontrol": output("ctld-down-metadata")}
    (found,) = await scheduler(RecordedSession(["573-forgotten-script"], faults=faults)).metadata("8", soon())
    assert (found.script or "").endswith("exit 7\n")
    session = RecordedSession(faults={**faults, "sacct": output("dbd-down-script")})
    with pytest.raises(Unavailable, match="Unable to contact slurm controller"):
        await scheduler(session).metadata("8", soon())
    assert session.programs() == ["scontrol", "sacct"]


async def test_metadata_with_a_controller_that_hangs():
    session = RecordedSession(["573-forgotten-script"], faults={"scontrol": asyncio.Event()})
    (found,) = await scheduler(session).metadata("8", soon(0.1))
    assert found.script


async def test_a_job_whose_script_nobody_shows():
    session = RecordedSession(["live-metadata"], faults={"sacct": Upstream("gone")})
    session.answers["scontrol write batch_script 72 -"] = [output("other-users-script")]
    (found,) = await scheduler(session).metadata("72", soon())
    assert (found.script, found.standard_output) == (None, f"{HOME}/o 72.txt")


# cancelling and attaching


@pytest.mark.parametrize(
    ("name", "job_id"), [("held-cancel", "73"), ("done-cancel", "72"), ("array-cancel-element", "78_11")]
)
async def test_cancelling(name, job_id):
    session = RecordedSession([name])
    await scheduler(session).cancel(job_id, soon())
    assert session.programs() == ["scancel"]


SILENT = {"scancel": Output(0)}


async def test_a_silent_scancel_is_believed_if_the_job_has_ended():
    await scheduler(RecordedSession(["cancelled-live"], faults=SILENT)).cancel("76", soon())
    await scheduler(RecordedSession(["forgotten-live", "forgotten-history"], faults=SILENT)).cancel("8", soon())


async def test_a_silent_scancel_is_no_answer():
    with pytest.raises(Upstream, match="still there"):
        await scheduler(RecordedSession(["held-live"], faults=SILENT)).cancel("73", soon())
    with pytest.raises(NotFound):
        session = RecordedSession(["unknown-live", "unknown-history"], faults=SILENT)
        await scheduler(session).cancel("999999", soon())


async def test_cancelling_a_job_that_only_the_history_knows():
    await scheduler(RecordedSession(["forgotten-cancel", "forgotten-history"])).cancel("8", soon())


async def test_cancelling_an_ended_job_of_another_user():
    """Slurm says of it only that it has ended, or that it does not know it."""
    past, live = output("forgotten-history"), output("cancelled-live")
    others: dict[str, Any] = {"sacct": replace(past, stdout=past.stdout.replace(b"fireuser", b"ada"))}
    with pytest.raises(Denied, match="another user"):
        await scheduler(RecordedSession(["forgotten-cancel"], faults=others)).cancel("8", soon())
    others = SILENT | {"squeue": replace(live, stdout=live.stdout.replace(b"fireuser", b"ada"))}
    with pytest.raises(Denied, match="another user"):
        await scheduler(RecordedSession(faults=others)).cancel("76", soon())


async def test_cancelling_what_is_not_there_or_not_ones_own():
    with pytest.raises(NotFound, match="Job not found"):
        await scheduler(RecordedSession(["unknown-cancel", "unknown-history"])).cancel("999999", soon())
    with pytest.raises(Denied, match="Access/permission denied"):
        await scheduler(RecordedSession(["other-users-cancel"])).cancel("73", soon())
    with pytest.raises(Unavailable):
        await scheduler(RecordedSession(faults={"scancel": output("ctld-down-cancel")})).cancel("72", soon())
    faults = {"sacct": output("dbd-down-history")}
    with pytest.raises(Unavailable):
        await scheduler(RecordedSession(["unknown-cancel"], faults=faults)).cancel("999999", soon())


async def test_attaching():
    session = RecordedSession(["running-live", "attach"])
    await scheduler(session).attach("72", "echo attached", soon())
    assert session.programs() == ["squeue", "srun"]


async def test_attaching_to_an_element_by_its_own_number():
    session = RecordedSession(["array-element-live"], faults={"srun": Output(0)})
    await scheduler(session).attach("78_2", "true", soon())
    assert "--jobid=80" in session.ran[1].argv


@pytest.mark.parametrize(
    ("names", "job_id", "kind"),
    [
        (["running-live"], "72", Invalid),  # the command itself fails
        (["held-live"], "73", Conflict),
        (["array-mixed-live"], "78", Conflict),
        ([*both("unknown")], "999999", NotFound),
        ([*both("forgotten")], "8", Conflict),
    ],
)
async def test_attaching_where_it_cannot_be(names, job_id, kind):
    fault = output("held-attach" if job_id == "73" else "attach-fails")
    session = RecordedSession(names, faults={"srun": fault})
    with pytest.raises(kind):
        await scheduler(session).attach(job_id, "echo no >&2; exit 3", soon())


# the cluster


async def test_the_cluster():
    names = ["nodes", "partitions", "partitions-hidden", "reservations", "accounts", "ping"]
    one = scheduler(RecordedSession(names))
    assert [node.name for node in await one.nodes(soon())] == ["nid001", "nid002", "nid003", "nid004"]
    assert [part.name for part in await one.partitions(soon(), hidden=False)] == ["debug", "long"]
    assert [part.name for part in await one.partitions(soon(), hidden=True)] == ["debug", "long"]
    assert [found.name for found in await one.reservations(soon())] == ["testres"]
    assert await one.accounts(soon()) == [Account("other", default=False), Account("test", default=True)]
    await one.ping(soon())


async def test_accounts_when_the_records_are_down():
    for fault in (output("dbd-down-accounts"), output("no-accounting-accounts"), Timeout("late"), asyncio.Event()):
        assert await scheduler(RecordedSession(faults={"sacctmgr": fault})).accounts(soon(0.05)) is None


async def test_a_controller_that_is_down():
    with pytest.raises(Unavailable, match="DOWN"):
        await scheduler(RecordedSession(faults={"scontrol": output("ctld-down-ping")})).ping(soon())
