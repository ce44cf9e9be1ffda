"""Jobs in the toy Slurm: they run, wait for each other, and end with all their processes."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flamecrest.sandbox import processes
from flamecrest.sandbox.slurm.toy import ToySlurm
from flamecrest.sandbox.users import UnixUsers

from .conftest import ToyShell, alive, eventually

pytestmark = pytest.mark.exhaustive


@pytest.fixture
def home(shell: ToyShell) -> Path:
    return shell.users["fireuser"].home


def test_job_runs_and_completes(shell: ToyShell, home: Path) -> None:
    shell.run("mkfifo gate")
    job = shell.submit(
        "echo out; echo err >&2; read line < gate; exit 3", "--hold -e err-%j.txt -o 'out %x.txt' -J 'a b'"
    )
    assert shell.state(job) == "PENDING"
    shell.run(f"scontrol release {job}")
    shell.wait(job, "RUNNING")
    eventually(lambda: (home / "out a b.txt").read_text() == "out\n")
    shell.run("echo > gate")
    assert shell.wait(job) == "FAILED"
    assert (home / f"err-{job}.txt").read_text() == "err\n"
    assert shell.run(f"sacct -nPX -j {job} --format=State,ExitCode").out == "FAILED|3:0\n"
    assert "NonZeroExitCode" in shell.run(f"scontrol show job {job}").out


def test_environment_of_a_job(shell: ToyShell, home: Path) -> None:
    (home / "sub").mkdir()
    job = shell.submit('pwd; echo "$0 $*"; env | sort', "--chdir=sub -J name -A other -p long -n 3")
    shell.wait(job)
    result = (home / "sub" / f"slurm-{job}.out").read_text()
    known = dict(line.split("=", 1) for line in result.splitlines() if "=" in line)
    assert result.startswith(f"{home}/sub\n")
    assert {
        name: known[name] for name in known if re.fullmatch("SLURM_JOB_(ID|NAME|ACCOUNT|PARTITION|USER|UID)", name)
    } == {
        "SLURM_JOB_ID": job,
        "SLURM_JOB_NAME": "name",
        "SLURM_JOB_ACCOUNT": "other",
        "SLURM_JOB_PARTITION": "long",
        "SLURM_JOB_USER": "fireuser",
        "SLURM_JOB_UID": "1001",
    }
    assert (known["SLURM_SUBMIT_DIR"], known["SLURM_NTASKS"], known["HOME"]) == (str(home), "3", str(home))


@pytest.mark.parametrize(
    ("option", "there", "absent"),
    [
        ("", {"MINE": "1"}, set[str]()),
        ("--export=ALL,X='a b',Y=", {"MINE": "1", "X": "a b", "Y": ""}, set[str]()),
        ("--export=MINE,Z=2", {"MINE": "1", "Z": "2", "USER": "fireuser"}, {"OTHER"}),
        ("--export=NONE", {"USER": "fireuser"}, {"MINE", "OTHER"}),
        ("--export-file=vars", {"FROM": "file\nwith=lines"}, set[str]()),
        ("--export-file=3 3< vars", {"FROM": "file\nwith=lines"}, set[str]()),
    ],
)
def test_export_options(shell: ToyShell, home: Path, option: str, there: dict[str, str], absent: set[str]) -> None:
    (home / "vars").write_bytes(b"FROM=file\nwith=lines\0")
    result = shell.run(f"export MINE=1 OTHER=2; sbatch --parsable {option}", stdin="#!/bin/bash\nenv -0 > seen\n")
    assert result.status == 0, result
    shell.wait(result.out.strip())
    seen = dict(entry.split("=", 1) for entry in (home / "seen").read_text().split("\0")[:-1])
    assert {name: seen.get(name) for name in there} == there
    assert not absent & set(seen)


def test_directives(shell: ToyShell) -> None:
    script = (
        "# a comment\n#SBATCH --job-name='quoted # name' --comment=\"it's\" -p long\n"
        "#SBATCH -t 1-02:03 # the rest is comment\n"
        "\necho\n#SBATCH --job-name=too-late"
    )
    job = shell.submit(script, "--partition=debug --hold")
    assert shell.run(f"squeue -h -j {job} -o '%j|%k|%P|%l'").out == "quoted # name|it's|debug|1-02:03:00\n"


def test_script_is_returned(shell: ToyShell) -> None:
    text = "echo 'R&D' \"$x\" \udcff\n"
    job = shell.submit(text, "--hold")
    assert shell.run(f"scontrol write batch_script {job} -").out == f"#!/bin/bash\n{text}\n"
    assert f"\n#!/bin/bash\n{text}\n" in shell.run(f"sacct -j {job} --batch-script").out


def test_script_arguments(shell: ToyShell, home: Path) -> None:
    (home / "args.sh").write_text('#!/bin/bash\nprintf "%s\\n" "$@" > args\n')
    job = shell.run("sbatch --parsable -- args.sh 'a b' '' $'new\\nline' --opt").out.strip()
    shell.wait(job)
    assert (home / "args").read_text() == "a b\n\nnew\nline\n--opt\n"


def test_jobs_wait_for_free_cpus(shell: ToyShell) -> None:
    shell.toy.set(cpus=1)  # per node; the partition has three
    jobs = [shell.submit("until [ -e go ]; do sleep 0.02; done") for _ in range(5)]
    eventually(lambda: shell.run("squeue -h -t R -o %i").out.count("\n") == 3)
    waiting = shell.run("squeue -h -t PD -S i -o '%i %r %N|'").out.splitlines()
    assert sorted(waiting) == [f"{jobs[3]} Resources |", f"{jobs[4]} Priority |"]
    assert shell.run("sinfo -h -p debug -o '%t %D'").out.split("\n")[:-1] == ["resv 1", "alloc 3"]
    shell.run("touch go")
    assert [shell.wait(job) for job in jobs] == ["COMPLETED"] * 5


def test_job_that_cannot_start_has_a_reason(shell: ToyShell) -> None:
    wanted = {
        "-N 100": "PartitionConfig",
        "-c 64": "PartitionConfig",
        "-t 10-00:00:00": "PartitionTimeLimit",
        "--qos=high -p long -t 2:00:00": "QOSMaxWallDurationPerJobLimit",
        "--begin=now+1hour": "BeginTime",
        "--hold": "JobHeldUser",
    }
    jobs = {shell.submit("true", options): reason for options, reason in wanted.items()}
    for job, reason in jobs.items():
        assert shell.run(f"squeue -h -j {job} -o '%T %r'").out == f"PENDING {reason}\n"
    assert shell.run(f"scancel {' '.join(jobs)}").status == 0
    assert {shell.state(job) for job in jobs} == {"CANCELLED"}


def test_reservation(shell: ToyShell) -> None:
    job = shell.submit("true", "--reservation=testres")
    shell.wait(job)
    assert shell.run(f"sacct -nPX -j {job} --format=NodeList,Reservation").out == "nid004|testres\n"


def test_dependencies(shell: ToyShell) -> None:
    shell.run("mkfifo gate")
    first = shell.submit("read line < gate; exit 1")
    after = {
        kind: shell.submit("true", f"--dependency={kind}:{first}") for kind in ("afterany", "afterok", "afternotok")
    }
    assert {shell.run(f"squeue -h -j {job} -o %r").out for job in after.values()} == {"Dependency\n"}
    shell.run("echo > gate")
    assert shell.wait(after["afterany"]) == shell.wait(after["afternotok"]) == "COMPLETED"
    assert shell.run(f"squeue -h -j {after['afterok']} -o '%T %r'").out == "PENDING DependencyNeverSatisfied\n"


def test_cancelling_ends_all_processes_of_a_job(shell: ToyShell, home: Path) -> None:
    job = shell.submit("sleep 1000 & echo $! $$ > pids; mv pids ready; sleep 1000")
    pids = eventually(lambda: (home / "ready").exists() and (home / "ready").read_text()).split()
    assert shell.run(f"scancel {job}", "user01").status == 210
    assert alive(int(pids[0]))
    assert shell.run(f"scancel {job}").status == 0
    assert shell.wait(job) == "CANCELLED"
    eventually(lambda: not any(alive(int(pid)) for pid in pids))
    assert "CANCELLED AT" in (home / f"slurm-{job}.out").read_text()


def test_job_that_ignores_sigterm_is_killed(shell: ToyShell, home: Path) -> None:
    shell.toy.set(kill_wait=0.1)
    job = shell.submit("trap '' TERM; echo > ready; while true; do sleep 0.05; done")
    eventually((home / "ready").exists)
    shell.run(f"scancel {job}")
    assert shell.wait(job) == "CANCELLED"
    assert shell.run(f"sacct -nP -j {job}.batch --format=State,ExitCode").out == "CANCELLED|0:9\n"


def test_signal_to_the_script(shell: ToyShell, home: Path) -> None:
    job = shell.submit("trap 'echo got it; exit 5' USR1; echo > ready; while true; do sleep 0.05; done")
    eventually((home / "ready").exists)
    assert shell.run(f"scancel --signal=USR1 --batch {job}").status == 0
    assert shell.wait(job) == "FAILED"
    assert "got it" in (home / f"slurm-{job}.out").read_text()


def test_output_that_cannot_be_opened_fails_the_job(shell: ToyShell, home: Path) -> None:
    theirs = shell.users["user01"].home
    for option in ("--chdir=/nosuch", f"-o {theirs}/x", "-o no/such/folder/x", "-i nosuch", "-e /etc/x"):
        job = shell.submit("true", option)
        assert shell.wait(job) == "FAILED"
        assert shell.run(f"sacct -nPX -j {job} --format=ExitCode").out == "0:53\n"
    assert not list(theirs.iterdir())
    job = shell.submit("pwd", f"--chdir=/nosuch -o {home}/out")
    assert shell.wait(job) == "COMPLETED"
    assert (home / "out").read_text().splitlines()[1:] == ["/tmp"]


def test_missing_interpreter_fails_the_job(shell: ToyShell, home: Path) -> None:
    job = shell.run("sbatch --parsable", stdin="#!/no/such/interpreter\n").out.strip()
    assert shell.wait(job) == "FAILED"
    assert "No such file or directory" in (home / f"slurm-{job}.out").read_text()


def test_steps(shell: ToyShell, home: Path) -> None:
    job = shell.submit(
        "srun -n 2 bash -c 'echo task $SLURM_PROCID'; srun false; echo last $?; read line < gate", "--hold"
    )
    shell.run("mkfifo gate")
    shell.run(f"scontrol release {job}")
    eventually(
        lambda: "last" in (home / f"slurm-{job}.out").read_text() if (home / f"slurm-{job}.out").exists() else ""
    )
    assert (home / f"slurm-{job}.out").read_text().splitlines() == [
        "task 0",
        "task 1",
        "srun: error: nid001: task 0: Exited with exit code 1",
        "last 1",
    ]
    result = shell.run(f"srun --jobid={job} --overlap cat", stdin="through\n")
    assert (result.status, result.out) == (0, "through\n")
    assert shell.run(f"srun --jobid={job} true", "user01").status == 1
    assert shell.run(f"srun --jobid={job} no-such-program").status == 2
    shell.run("echo > gate")
    shell.wait(job)
    steps = shell.run(f"sacct -nP -j {job} --format=JobID,JobName,State,ExitCode").out.splitlines()[1:]
    assert steps == [
        f"{job}.batch|batch|COMPLETED|0:0",
        f"{job}.0|bash|COMPLETED|0:0",
        f"{job}.1|false|FAILED|1:0",
        f"{job}.2|cat|COMPLETED|0:0",
        f"{job}.3|no-such-program|FAILED|2:0",
    ]


def test_step_ends_with_its_job(shell: ToyShell, home: Path) -> None:
    job = shell.submit("read line < gate", "--hold")
    shell.run("mkfifo gate")
    shell.run(f"scontrol release {job}")
    shell.wait(job, "RUNNING")
    with ThreadPoolExecutor() as pool:
        step = pool.submit(shell.run, f"srun --jobid={job} bash -c 'echo $$ > pid; mv pid ready; sleep 1000; true'")
        eventually((home / "ready").exists)
        shell.run("echo > gate")
        assert step.result(timeout=50).status == 137
    assert not alive(int((home / "ready").read_text()))


def test_concurrent_submissions_get_different_ids(shell: ToyShell) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: shell.submit("true"), range(12)))
    assert sorted(map(int, jobs)) == list(range(1, 13))
    assert {shell.wait(job) for job in jobs} == {"COMPLETED"}


def test_killed_runner_fails_the_job(shell: ToyShell) -> None:
    job = shell.submit("sleep 1000")
    shell.wait(job, "RUNNING")
    ((runner, _),) = shell.toy.sessions()
    os.kill(runner, signal.SIGKILL)
    assert shell.wait(job) == "NODE_FAIL"


def test_controller_forgets_ended_jobs_and_accounting_keeps_them(shell: ToyShell) -> None:
    job = shell.submit("true")
    shell.wait(job)
    shell.toy.set(min_job_age=0)
    assert shell.run(f"squeue -t all -j {job}").err == "slurm_load_jobs error: Invalid job id specified\n"
    assert shell.run(f"scontrol show job {job}").status == 1
    assert shell.run(f"sacct -nPX -j {job} --format=State").out == "COMPLETED\n"


def test_changes_of_a_job(shell: ToyShell) -> None:
    job = shell.submit("true", "--hold --dependency=afterok:99")
    assert shell.run(f"scontrol update JobId={job} Dependency= StartTime=uts4000000000 Priority=7").status == 0
    shown = shell.run(f"scontrol show job {job}").out
    assert "Dependency=(null)" in shown
    assert shell.run(f"scontrol update JobId={job}").err == "No changes specified\n"
    assert shell.run(f"scontrol update JobId={job} StartTime=never").status == 1
    shell.run(f"scancel {job}")
    shell.wait(job)
    assert shell.run(f"scontrol update JobId={job} JobName=x").err == f"Job has already finished for job {job}\n"


def test_visibility_of_jobs(shell: ToyShell) -> None:
    mine, theirs = shell.submit("true", "-J x"), shell.submit("true", "-J y", "user01")
    for job in (mine, theirs):
        shell.wait(job)
    assert shell.run("sacct -nPX --format=JobID").out == f"{mine}\n"
    assert shell.run("sacct -nPXa --format=User").out == "fireuser\nuser01\n"
    assert shell.run("sacct -nPXa --name=y --format=User").out == "user01\n"
    assert shell.run("squeue -h -t all -u user01 -o %u").out == "user01\n"
    assert shell.run("sacct -nPXa -S now-1hour -E now-30minutes --format=User").out == ""
    assert shell.run(f"scontrol write batch_script {theirs} -").err == "job script retrieval failed: Invalid user id\n"


def test_lost_response_of_sbatch(shell: ToyShell) -> None:
    shell.toy.set(lost_answers=1)
    result = shell.run("sbatch --parsable", stdin="#!/bin/sh\n")
    assert (result.status, result.out) == (1, "")
    assert result.err.endswith("Socket timed out on send/recv operation\n")
    shell.toy.set(lost_answers=0)
    assert shell.wait("1") == "COMPLETED"


def test_no_process_is_left(shell: ToyShell, home: Path) -> None:
    job = shell.submit("env -i sleep 1000 & echo $! > pids; setsid sleep 1000 & echo $! >> pids; mv pids ready; wait")
    pids = eventually(lambda: (home / "ready").exists() and (home / "ready").read_text()).split()
    ((runner, _),) = shell.toy.sessions()
    assert processes.end_all(shell.users.root, shell.toy.sessions()) >= 4
    assert not any(alive(pid) for pid in (runner, *map(int, pids)))
    assert shell.run("squeue -h").out == ""
    assert shell.state(job) == "NODE_FAIL"


def test_existing_state_is_used(shell: ToyShell, users: UnixUsers) -> None:
    job = shell.submit("true")
    shell.wait(job)
    again = ToySlurm(users)
    again.start()
    assert [one.id for one in again.jobs()] == [int(job)]
    assert shell.submit("true") == str(int(job) + 1)


@pytest.mark.parametrize(
    "line",
    [
        "squeue --nosuch",
        "sinfo --nosuch",
        "scontrol --nosuch",
        "sacctmgr --nosuch",
        "scancel --nosuch",
        "srun --nosuch",
    ],
)
def test_unknown_options(shell: ToyShell, line: str) -> None:
    program = line.partition(" ")[0]
    result = shell.run(line)
    assert result.err.splitlines() == [
        f"{program}: unrecognized option '--nosuch'",
        f'Try "{program} --help" for more information',
    ]
    assert result.status == 1


NONSENSE = (
    "squeue -j 'x;y'", "squeue -j ''", "squeue -o '%'", "squeue -O ''", "squeue -O ':::,,'", "sacct -j x",
    "sacct --format=,", "sacct -S ''", "sacct -S now+", "sacct -S now-xdays", "scancel ''", "scancel 1_x",
    "scancel '1_[9-1]'", "scancel -5", "scontrol", "scontrol show", "scontrol show job 1_x",
    "scontrol show hostnames 'nid[x-'", "scontrol write batch_script", "sinfo -o '%999Z'", "sacctmgr show",
    "sacctmgr show user where nosuch=1", "sacctmgr show user format=nosuch", "sbatch -N -1 --wrap true",
    "sbatch -n x --wrap true", "sbatch --mem=x --wrap true", "sbatch --array= --wrap true",
    "sbatch --array=0-99999999 --wrap true", "sbatch -t -5 --wrap true", "sbatch -J", "srun --jobid=x true",
    "srun", "sbatch --begin=now+5parsecs --wrap true", "sbatch --export-file=nosuch --wrap true",
    "squeue -t nosuch", "scancel -s NOSIG 1",
)  # fmt: skip


def test_arbitrary_arguments_do_not_break_a_program(shell: ToyShell) -> None:
    shell.submit("true", "--hold")
    for line in NONSENSE:
        result = shell.run(line)
        assert "Traceback" not in result.err, line
        assert result.status < 256
    assert len(shell.toy.jobs()) == 1


def test_unknown_setting_is_refused(shell: ToyShell) -> None:
    with pytest.raises(KeyError):
        shell.toy.set(contoller_down=1)
