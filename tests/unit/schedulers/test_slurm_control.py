"""Changes of a job by scontrol and scancel, with what the recorded programs say when they refuse."""

from __future__ import annotations

import pytest

from flamecrest.server.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from flamecrest.server.schedulers.job_errors import ElementsLeftOut
from flamecrest.server.schedulers.slurm.dialect import Slurm
from flamecrest.server.schedulers.values import Dependency, DependencyKind, JobAction, JobChange
from flamecrest.server.ssh.command import RUNNING, Output

from .recorded import VERSIONS, output

SLURM = Slurm()


HOLD, SUSPEND, RESUME, REQUEUE = JobAction.HOLD, JobAction.SUSPEND, JobAction.RESUME, JobAction.REQUEUE


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("action", "done", "ended"),
    [
        (HOLD, "hold-array-with-ended-elements", "hold-ended-array"),
        (SUSPEND, "suspend-array-with-ended-elements", "suspend-ended-array"),
        (RESUME, "resume-array-with-ended-elements", "suspend-ended-array"),
        (REQUEUE, "requeue-array-of-which-elements-wait", "requeue-waiting-array"),
    ],
)
def test_an_array_is_changed_for_the_elements_that_can_be(
    action: JobAction, done: str, ended: str, version: str
) -> None:
    command = SLURM.act("12", action)
    command.parse(output(done, version))
    with pytest.raises(ElementsLeftOut) as caught:
        command.parse(output(ended, version))
    assert (str(caught.value.elements), type(caught.value.error)) == ("0-3", Conflict)
    with pytest.raises(Denied):
        command.parse(Output(1, b"", b"12_0: Access/permission denied\n12_1-3: No error\n"))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_refusal_for_the_other_elements_is_told(version: str) -> None:
    command = SLURM.change("12", JobChange(partition="none"))
    with pytest.raises(Invalid, match=r"^\d+_\[?1-3\]?: Invalid partition name specified$") as caught:
        command.parse(output("refused-change-of-array-with-ended-elements", version))
    assert [field.name for field in caught.value.fields] == ["partition"]
    mixed = Output(1, b"", b"12_0: Job has already finished\n12_1: No error\n12_2: Invalid qos specification\n")
    with pytest.raises(Invalid, match=r"^12_1: No error 12_2: Invalid qos specification$"):
        command.parse(mixed)


def test_elements_that_cannot_be_read_are_a_refusal() -> None:
    for elements in ("9-1", "0-99999999", "1,,2", "-"):
        with pytest.raises(Conflict) as caught:
            SLURM.act("12", HOLD).parse(Output(1, b"", f"12_[{elements}]: Job has already finished\n".encode()))
        assert str(caught.value).startswith("12_")


@pytest.mark.parametrize("action", JobAction)
def test_elements_that_were_cancelled_before_they_started_are_not_known(action: JobAction) -> None:
    """Recorded with 22.05, 24.11 and 26.05: `scontrol hold 12_[0-1]` and `scontrol update JobId=12_[0-1] …`."""
    command = SLURM.act("12_[0-1]", action)
    command.parse(Output(1, b"", b"12_0: Invalid job id specified\n12_1: No error\n"))
    for said in (b"12_0: Invalid job id specified\n", b"12_[0]: Invalid job id specified\n"):
        with pytest.raises(ElementsLeftOut) as caught:
            command.parse(Output(1, b"", said))
        assert isinstance(caught.value.error, NotFound)
    with pytest.raises(Denied):
        command.parse(Output(1, b"", b"12_0: Invalid job id specified\n12_1: Access/permission denied\n"))


def test_the_commands() -> None:
    assert SLURM.act("12_3", JobAction.HOLD).argv == ("scontrol", "hold", "12_3")
    assert SLURM.act("12.west", JobAction.REQUEUE).argv == ("scontrol", "--clusters=west", "requeue", "12")
    assert SLURM.signal("12", "sigusr1").argv == ("scancel", "--full", "--verbose", "--signal=USR1", "12")
    change = JobChange(
        time_limit=120, name="n n", dependencies=[Dependency(DependencyKind.AFTER_ANY, ["4"])], begin=1900000000
    )
    expected = [
        "update",
        "JobId=12",
        "JobName=n n",
        "TimeLimit=2:00",
        "StartTime=uts1900000000",
        "Dependency=afterany:4",
    ]
    assert list(SLURM.change("12", change).argv) == ["scontrol", *expected]
    assert list(SLURM.change("12", JobChange(dependencies=())).argv)[-1] == "Dependency="


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (1, "Invalid job id specified for job 999999\nslurm_suspend error: Invalid job id specified", NotFound),
        (1, "Invalid user id for job 39\nslurm_suspend error: Invalid user id", Denied),
        (1, "Access/permission denied for job 25", Denied),
        (1, "Job is pending execution for job 25", Conflict),
        (1, "Job/step already completing or completed for job 25", Conflict),
        (1, "Job has already finished for job 25", Conflict),
        (1, "25_[1-3]: Job has already finished", ElementsLeftOut),
        (1, "Kill job error on job id 25: Job can not be altered now, try again later", Conflict),
        (1, "Invalid partition name specified for job 25", Invalid),
    ],
)
def test_refusals_have_kinds(status: int, said: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        SLURM.act("25", JobAction.RELEASE).parse(Output(status, stderr=said.encode()))
    with pytest.raises(kind):
        SLURM.change("25", JobChange(partition="long")).parse(Output(status, stderr=said.encode()))


@pytest.mark.parametrize("action", [JobAction.SUSPEND, JobAction.RESUME])
def test_a_job_that_slurm_does_not_know_cannot_be_suspended(action: JobAction) -> None:
    """Of any other request these words tell that the answer was lost."""
    said = Output(1, stderr=b"Unexpected message received for job 999999\n")
    with pytest.raises(NotFound):
        SLURM.act("999999", action).parse(said)
    with pytest.raises(Unavailable):
        SLURM.act("999999", JobAction.HOLD).parse(said)
    with pytest.raises(Unavailable):
        SLURM.act("999999", action).parse(Output(1, stderr=b"slurm_suspend error: Unexpected message received\n"))
    with pytest.raises(Denied):
        SLURM.act("999999", action).parse(Output(1, stderr=b"Access/permission denied for job 25\n"))


def test_a_done_change_says_nothing() -> None:
    SLURM.act("25", JobAction.HOLD).parse(Output(0))


@pytest.mark.parametrize("signal", ["", "USR1;rm", "--batch", "K ILL", "0", "1000", "65", "99", "SIGSIGKILL"])
def test_what_cannot_be_a_signal_is_refused(signal: str) -> None:
    with pytest.raises(Invalid):
        SLURM.signal("12", signal)


@pytest.mark.parametrize("signal", ["1", "9", "10", "19", "40", "60", "64", "SIG9", "RTMIN"])
def test_signals_by_number_and_name(signal: str) -> None:
    assert SLURM.signal("12", signal).argv[3] == f"--signal={signal.removeprefix('SIG')}"


PLUGINS = b"""scancel: select/cons_tres: common_init: select/cons_tres loaded
scancel: select/linear: init: Linear node selection plugin loaded with argument 17
"""  # of scancel 22.05 --verbose, as what follows


def test_a_signal_to_a_job_without_processes_is_refused_while_scancel_repeats_it() -> None:
    command = SLURM.signal("930", "USR1")
    begun = PLUGINS + b"scancel: Signal 10 to full job 930\n"
    repeated = begun + b"scancel: Job is in transitional state, retrying\n"
    assert command.is_enough is not None
    assert not command.is_enough(Output(RUNNING, begun))
    assert command.is_enough(Output(RUNNING, repeated))
    with pytest.raises(Conflict, match="no processes"):
        command.parse(Output(RUNNING, stderr=repeated))
    command.parse(Output(0, stderr=begun))


def test_errors_of_a_signal_are_without_the_other_lines() -> None:
    command, begun = SLURM.signal("932", "USR1"), PLUGINS + b"scancel: Signal 10 to full job 932\n"
    with pytest.raises(NotFound) as unknown:
        command.parse(
            Output(1, stderr=begun + b"scancel: error: Kill job error on job id 932: Invalid job id specified")
        )
    assert "loaded" not in str(unknown.value) + str(unknown.value.detail)
    with pytest.raises(Denied) as denied:
        command.parse(
            Output(1, stderr=begun + b"scancel: error: Kill job error on job id 932: Access/permission denied")
        )
    assert "loaded" not in denied.value.public + str(denied.value.detail)
