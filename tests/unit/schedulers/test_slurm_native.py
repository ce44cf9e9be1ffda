"""The caller's own options of sbatch, and `#SBATCH` lines that no option can undo."""

from __future__ import annotations

import pytest

from flamecrest.server.errors import Invalid
from flamecrest.server.schedulers.slurm.submission import dependency_text, submit
from flamecrest.server.schedulers.values import Dependency, DependencyKind, JobSpec, Resources

SCRIPT = "#!/bin/sh\n"


@pytest.mark.parametrize(
    "option", ["--spread-job", "--core-spec=2", "-S2", "--wait-all-nodes=1", "--partition=p", "-N 2", "--mem=0"]
)
def test_native_options_reach_sbatch(option: str) -> None:
    assert option in submit("sbatch", JobSpec("/w", SCRIPT, native=(option,))).argv


@pytest.mark.parametrize(
    "option",
    ["--wrap=id", "--wra=id", "--w", "--uid=0", "--ui=0", "--gid=0", "--chdir=/", "-D/", "-HD/", "--parsable",
     "--test-only", "--test", "--wait", "-W", "--export=NONE", "--export-file=/x", "--get-user-env", "--help", "-h",
     "--version", "-V", "--usage", "--", "-", "x", "/bin/sh", "--comment=a\n--uid=0", "--name=\0"],
)  # fmt: skip
def test_options_that_the_gateway_needs_itself(option: str) -> None:
    with pytest.raises(Invalid) as caught:
        submit("sbatch", JobSpec("/w", SCRIPT, native=(option,)))
    assert [field.name for field in caught.value.fields] == ["native"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (JobSpec("/w", SCRIPT, partition="p", native=("--partition=q",)), "partition"),
        (JobSpec("/w", SCRIPT, time_limit=60, native=("-t10",)), "timeLimit"),
        (JobSpec("/w", SCRIPT, resources=Resources(nodes=1), native=("-HN2",)), r"resources\.nodes"),
    ],
)
def test_native_options_do_not_contradict_fields(spec: JobSpec, field: str) -> None:
    with pytest.raises(Invalid, match=f"contradicts the field `{field}`"):
        submit("sbatch", spec)


@pytest.mark.parametrize("line", ["#SBATCH --hold", "#SBATCH -n2 -H", "#SBATCH\t-H # wait"])
def test_hold_of_the_script_is_not_overridden_in_silence(line: str) -> None:
    with pytest.raises(Invalid, match=r"^hold: "):
        submit("sbatch", JobSpec("/w", f"{SCRIPT}{line}\n", hold=False))


@pytest.mark.parametrize("line", ["#SBATCH --exclusive", "#SBATCH --exclusive=user", "#SBATCH -n2 --exclus"])
def test_exclusive_of_the_script_is_not_overridden_in_silence(line: str) -> None:
    with pytest.raises(Invalid, match=r"^resources\.exclusive: "):
        submit("sbatch", JobSpec("/w", f"{SCRIPT}{line}\n", resources=Resources(exclusive=False)))


@pytest.mark.parametrize("line", ["#SBATCH -n2 --exclude=n1", "# SBATCH --hold", "##SBATCH -H", "true\n#SBATCH --hold",
                                  "#SBATCH -n2 # --hold --exclusive"])  # fmt: skip
def test_false_without_such_lines_needs_no_option(line: str) -> None:
    spec = JobSpec("/w", f"{SCRIPT}{line}\n", hold=False, resources=Resources(exclusive=False))
    assert {"--hold", "--exclusive"}.isdisjoint(submit("sbatch", spec).argv)


@pytest.mark.parametrize("job_id", ["0", "4294967295", "123.batch", "123.west", "x"])
def test_dependencies_on_what_cannot_be(job_id: str) -> None:
    with pytest.raises(Invalid) as caught:
        dependency_text([Dependency(DependencyKind.AFTER_OK, (job_id,))])
    assert [field.name for field in caught.value.fields] == ["dependencies"]


@pytest.mark.parametrize("name", ["SLURM_CONF", "SLURM_JWT", "SLURM_WORKING_CLUSTER", "SLURM_DEBUG_FLAGS"])
def test_variables_that_let_sbatch_ask_another_slurm(name: str) -> None:
    with pytest.raises(Invalid, match=name) as caught:
        submit("sbatch", JobSpec("/w", SCRIPT, env={"A": "1", name: "/x"}))
    assert [field.name for field in caught.value.fields] == ["env"]
