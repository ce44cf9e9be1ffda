"""The toy Slurm compared with recordings of the real one: output, exit statuses, columns and their order."""

from __future__ import annotations

import re

import pytest

from .conftest import ToyShell, eventually
from .recordings import MARK, recording, replay

SCRIPTS = {
    "hello.sh": "#!/bin/bash\n#SBATCH --job-name=hello\n#SBATCH --time=00:05:00\nsleep ${1:-2}\n",
    "long.sh": "#!/bin/bash\nsleep 1000\n",
    "nobang.sh": "echo no interpreter\n",
}


@pytest.fixture
def world(shell: ToyShell) -> ToyShell:
    return furnished(shell)


@pytest.fixture(scope="module")
def calm(shared_shell: ToyShell) -> ToyShell:
    """A shell without jobs."""
    return furnished(shared_shell)


def furnished(shell: ToyShell) -> ToyShell:
    for user in ("fireuser", "user01"):
        for name, text in SCRIPTS.items():
            (shell.users[user].home / name).write_text(text)
    return shell


REFUSALS = (
    *range(110, 119), 121, 124, 125, 127, 128, *range(131, 142), 143, 144, 145, 147, 148, 149, 150, 151, 313, 318, 323,
    564, 565, 568, 569, 570, 574, 576, 596, 598, 599, 600, 601, *range(602, 610), *range(611, 616), 617, 619,
)  # fmt: skip
KNOWLEDGE = (2, 4, 8, 12, 16, 17, 18, 20, 21, 22, 592, 595, 597)


@pytest.mark.parametrize("number", [*REFUSALS, *KNOWLEDGE])
def test_output_equals_the_recording(calm: ToyShell, number: int) -> None:
    recorded, toy = replay(calm, number)
    assert toy == recorded
    assert not calm.toy.jobs()


@pytest.mark.parametrize(
    ("fault", "numbers"),
    [
        ("controller_down", [216, 217, 218, 220, 221, 222, *range(622, 632)]),
        ("controller_silent", [*range(638, 644)]),
        ("records_down", [226, 227, 632, 634, 636]),
        ("no_records", [633, 635, 637]),
        ("strict_limits", [328, 329, 330]),
    ],
)
def test_output_equals_the_recording_when_a_service_is_down(world: ToyShell, fault: str, numbers: list[int]) -> None:
    world.toy.set(**{fault: 1})
    for number in numbers:
        line = recording(number).line
        if number in {328, 329, 330}:  # by a user that does not exist here
            assert "user" not in line
        recorded, toy = replay(world, number) if number not in {328, 329, 330} else _as_fireuser(world, number)
        assert toy == recorded, number
    assert not world.toy.jobs()


def _as_fireuser(world: ToyShell, number: int) -> tuple[object, object]:
    recorded = recording(number)
    return recorded.result, world.run(recorded.line)


@pytest.mark.parametrize("number", [5, 10, 11, 14, 15, 591, 593, 594])
def test_columns_about_the_cluster_equal_the_recording(calm: ToyShell, number: int) -> None:
    """Keys and columns are equal. Loads, memory sizes and times are this machine's."""
    recorded = recording(number)
    result = calm.run(recorded.line)
    assert (result.status, result.err) == (0, "")
    if MARK in recorded.line:
        width = recorded.result.out.split("\n")[0].count(MARK)
        assert {line.count(MARK) for line in result.out.splitlines()} == {width}
        theirs, ours = ({row.split(MARK)[0] for row in text.splitlines()} for text in (recorded.result.out, result.out))
        assert ours == theirs
        return
    shape = (
        re.compile(r"(?:^|\s)([A-Za-z/:]+)=")
        if "=" in result.out
        else re.compile(r"([A-Z][A-Z_]+|[nN]id\d+|debug\*?|long)")
    )
    first = "\n\n" if number in {10, 14} else "\n"
    theirs_, ours_ = (
        shape.findall(text.split(first)[1 if number == 5 else 0]) for text in (recorded.result.out, result.out)
    )
    assert ours_ == theirs_


def test_hidden_partition(world: ToyShell) -> None:
    """Recording 13 with one additional line."""
    theirs, ours = recording(13), world.run(recording(13).line)
    assert ours.out.startswith(theirs.result.out)
    assert ours.out.removeprefix(theirs.result.out).startswith("PartitionName=service ")
    assert "service" not in world.run("scontrol show partitions").out + world.run("sinfo").out


def test_job_from_submission_to_end(world: ToyShell) -> None:
    """Recordings 500-517: no record, then an allocation, then the complete record."""
    world.toy.set(first_id=72, history_lag=3600)
    script = '#!/bin/bash\necho "$GREETING"\nread line < gate\n'
    submit = recording(500).line
    world.run("mkfifo gate")
    # a pending job: one that starts at once has no such state here
    held = world.run(
        f"{submit} --hold".replace("/home/fireuser", str(world.users["fireuser"].home)),
        stdin=script,
    )
    assert (held.out, held.status) == ("72\n", 0), held
    recorded, toy = replay(world, 502)
    assert toy == recorded
    world.run("scontrol release 72")
    world.wait("72", "RUNNING")
    for number in (503, 504, 505, 507, 508, 509):
        recorded, toy = replay(world, number)
        if number == 504:  # the steps of srun were recorded later
            toy.out = "\n".join(line for line in toy.out.splitlines() if "allocation" in line or ".batch" in line)
        assert toy == recorded, number
    world.toy.set(history_lag=0)
    recorded, toy = replay(world, 511)
    assert toy == recorded
    world.run("echo > gate")
    assert world.wait("72") == "COMPLETED"
    for number in (513, 514, 515, 516, 517):
        recorded, toy = replay(world, number)
        assert toy == recorded, number


def test_held_job(world: ToyShell) -> None:
    world.toy.set(first_id=73)
    world.submit("sleep 1000", "--hold --job-name=held")
    for number in range(519, 527):
        recorded, toy = replay(world, number)
        assert toy == recorded, number


def test_failed_jobs(world: ToyShell) -> None:
    world.toy.set(first_id=74)
    home = world.users["fireuser"].home
    (home / "fail.sh").write_text("#!/bin/bash\nexit 7\n")
    world.run("sbatch fail.sh")
    world.run("sbatch --wrap 'kill -9 $$'")
    world.run("sbatch --wrap 'exec sleep 1000'")
    world.wait("76", "RUNNING")
    world.run("scancel 76")
    world.toy.set(minute=0.01)
    world.run("sbatch -t 1 -J over --wrap 'exec sleep 1000'")
    for job, numbers in ((74, (528, 529)), (75, (530, 531)), (76, (532, 533)), (77, (579, 580))):
        world.wait(str(job))
        for number in numbers:
            recorded, toy = replay(world, number)
            assert toy == recorded, number


def test_array(world: ToyShell) -> None:
    world.toy.set(first_id=78)
    world.run("mkfifo go0 go2 go4 go6 go8")
    wait = "read line < go$SLURM_ARRAY_TASK_ID; exit $((SLURM_ARRAY_TASK_ID == 4))"
    assert world.submit(wait, "--array=0,2,4,6,8,11%2 -J arr") == "78"
    eventually(lambda: world.run("squeue -h -t R -j 78 -o %i").out.split() == ["78_2", "78_0"])
    for number in (534, 535, 536, 537, 538, 539, 540, 541, 542, 543, 544):
        recorded, toy = replay(world, number)
        assert toy == recorded, number
    for task in (0, 2, 4, 6, 8):
        (world.users["fireuser"].home / f"go{task}").write_text("on\n")
    assert eventually(lambda: not world.run("squeue -h -j 78").out.strip())
    for number in (545, 546):
        recorded, toy = replay(world, number)
        # the ids of the later tasks: in the recording another job was submitted in between
        theirs = recorded.out.replace("|82", "|81").replace("|83", "|82")
        assert toy.out == theirs, number


def test_job_name_with_separators(world: ToyShell) -> None:
    """squeue prints the name unchanged, sacct as the database stores it."""
    name = "a\n99\x1f99\x1fRUNNING\x1f\udcff'\"|é"
    quoted = name.replace("'", "'\\''")
    result = world.run(f"sbatch --parsable -J '{quoted}' --wrap true")
    assert (result.out, result.err) == ("1\n", "")
    assert world.run("squeue -h -t all -j 1 -o %j").out == name + "\n"
    assert world.run("sacct -n -P -X -j 1 --format=JobName").out == "a\n99\x1f99\x1fRUNNING\x1f?``|é\n"


@pytest.mark.parametrize(
    ("line", "number"),
    [("squeue -j 2", 24), ("squeue -l", 26), ("squeue --me", 25), ("sacct -j 2", 41), ("squeue --start -j 2", 84)],
)
def test_column_positions_equal_the_recording(world: ToyShell, line: str, number: int) -> None:
    """The columns of tables for humans start and end at the same positions."""
    world.toy.set(first_id=2)
    world.run("sbatch --hold hello.sh")
    ours = world.run(line).out.splitlines()
    theirs = recording(number).result.out.splitlines()
    header = 1 if number == 26 else 0
    assert ours[header] == theirs[header]
    if number == 41:
        assert ours[1] == theirs[1]
    assert len(ours[header + 1]) >= len(theirs[header].rstrip()) - len("NODELIST(REASON)")
