"""Environment and script of a submission, handed by real shells to a program that prints what it received."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flamecrest.server.errors import Invalid
from flamecrest.server.schedulers.job_environment import SHELLS_OWN
from flamecrest.server.schedulers.slurm import errors
from flamecrest.server.schedulers.slurm.dialect import Slurm
from flamecrest.server.schedulers.values import JobSpec
from flamecrest.server.ssh.command import Output
from flamecrest.server.ssh.start_line import (
    BEGIN,
    BEGIN_ERRORS,
    MAX_ARGUMENT,
    MAX_VARIABLES,
    PRELUDE,
    START_LINE,
    Preamble,
    command_text,
    split_end,
)

from .recorded import output

SCRIPT = "#!/bin/bash\ntrue\n"
SHOW = (
    "import os, sys; sys.stdout.buffer.write(b'\\0'.join([os.fsencode(x) for x in sys.argv[1:]]) + b'\\0\\0'"
    " + b'\\0'.join(k + b'=' + v for k, v in os.environb.items()) + b'\\0\\0' + sys.stdin.buffer.read())"
)
_POSSIBLE = {"dash": "dash", "bash": "bash --posix", "busybox": "busybox sh"}  # as /bin/sh
SHELLS = [line for program, line in _POSSIBLE.items() if shutil.which(program)]
every_shell = pytest.mark.parametrize("shell", SHELLS)


def run(env: dict[str, str], argv: tuple[str, ...], shell: str, script: str = SCRIPT, base: dict[str, str] = {}):  # noqa: B006
    """Run a submission with this program instead of sbatch, with `shell` as /bin/sh. `base` is the login's."""
    command = replace(Slurm().submit(JobSpec("/", env=env, script=script)), argv=argv)
    line = START_LINE.decode().replace("/bin/sh ", f"{shell} ")
    told = PRELUDE + command_text(command, 60).replace(b"/bin/sh ", f"{shell} ".encode()) + (command.stdin or b"")
    base = {"PATH": "/usr/bin:/bin", **base}
    done = subprocess.run([*shell.split(), "-c", line], input=told, capture_output=True, env=base, check=False)
    found = split_end(Preamble(BEGIN).strip(done.stdout))
    assert found is not None, done
    return Output(found[1], found[0], Preamble(BEGIN_ERRORS).strip(done.stderr))


def load(env: dict[str, str], script: str = SCRIPT, shell: str = SHELLS[0], base: dict[str, str] = {}):  # noqa: B006
    """The program's environment and the rest of its input."""
    done = run(env, (sys.executable, "-c", SHOW, "--chdir=a b"), shell, script, base)
    assert (done.status, done.stderr) == (0, b"")
    options, variables, rest = done.stdout.split(b"\0\0", 2)
    assert options == b"--chdir=a b"
    pairs = (entry.partition(b"=") for entry in variables.split(b"\0"))
    return {name.decode(): value.decode() for name, _, value in pairs}, rest.decode()


@every_shell
def test_hostile_environment_arrives_as_it_is(shell):
    env = {
        "COMMA": "a,b=c",
        "LINES": "one\ntwo\n\n",
        "QUOTES": 'it\'s "x" `id` $(id) $HOME \\n %s !!',
        "UNICODE": "é漢字🔥",
        "EMPTY": "",
        "SPACES": "  a  b\t ",
        "RETURNS": "a\r\nb\r",
        "GLOB": "* ? [a]",
        "run": "mine",
        "e": "mine",
        "REPLY": "mine",
        "IFS": ":",
        "PATH": "/nowhere",
        "HOME": "/elsewhere",
        "LC_ALL": "C.UTF-8",
        "BIG": "x" * 100_000,
    }
    found, rest = load(env, shell=shell)
    assert {name: found.get(name) for name in env} == env
    assert rest == SCRIPT


@settings(max_examples=15)
@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
            lambda name: (
                name not in SHELLS_OWN and not name.startswith(("BASH", "LC_", "LD_", "PYTHON", "MALLOC", "LANG"))
            )
        ),
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30),
        max_size=4,
    ),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=100),
)
@example({"A": "a[$(touch /tmp/never)]"}, "")
def test_any_environment_arrives_as_it_is(env, script):
    found, rest = load(env, script)
    assert {name: found.get(name) for name in env} == env
    assert rest == script


@every_shell
def test_what_the_login_has_set_reaches_the_job_and_nothing_of_ours_does(shell):
    """Also the variables that programs of the gateway's own must not see."""
    login = {
        "LC_ALL": "C.UTF-8",
        "SQUEUE_FORMAT": "%i",
        "POSIXLY_CORRECT": "1",
        "TZ": "Europe/Zurich",
        "SBATCH_ACCOUNT": "mine",
        "SLURM_MPI_TYPE": "pmix",
        "IFS": "x",
    }
    found, _ = load({}, shell=shell, base=login)
    assert {name: found.get(name) for name in login} == login | {"IFS": found.get("IFS")}
    assert not [name for name in found if name.startswith(("FLAMECREST", "fc_"))]
    assert "LC_ALL" not in load({}, shell=shell)[0]


def test_a_large_script_arrives_whole():
    script = "#!/bin/sh\n" + "# 0123456789\n" * 100_000
    assert load({"A": "b"}, script)[1] == script


@every_shell
def test_every_name_that_is_accepted_works(shell):
    """Variables that shells compute, evaluate or keep are refused: all others, bash's list among them, arrive."""
    clean = {"PATH": "/usr/bin:/bin"}
    asked = subprocess.run(["bash", "-c", "compgen -v"], env=clean, capture_output=True, check=True, text=True)
    names = {*asked.stdout.split(), "EXECIGNORE", "TMOUT", "COLUMNS", "HISTSIZE", "MAIL", "ENV", "PS4"}
    env = dict.fromkeys(sorted(names - SHELLS_OWN - {"LC_CTYPE"}), "7q")  # Python itself sets LC_CTYPE where none is
    found, _ = load(env, shell=shell)
    assert {name: found.get(name) for name in env} == env


@every_shell
@pytest.mark.parametrize("changed", [{"PATH": "{0}/job"}, {"PATH": ""}, {"EXECIGNORE": "*"}])
def test_the_program_is_the_one_of_the_login(shell, changed, tmp_path: Path):
    for place in ("login", "job"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "submit-here").write_text(f"#!/bin/sh\necho {place}\n")
        (tmp_path / place / "submit-here").chmod(0o755)
    env = {name: value.format(tmp_path) for name, value in changed.items()}
    login = {"PATH": f"{tmp_path}/login:/usr/bin:/bin", "BASH_FUNC_submit-here%%": "() { echo function; }"}
    assert run(env, ("submit-here",), shell, base=login).stdout == b"login\n"
    (tmp_path / "login" / "submit-here").unlink()
    done = run(env, ("submit-here",), shell, base=login)
    assert (done.status, done.stdout) == (127, b"")
    assert done.missing_program == "submit-here"


def test_a_program_that_is_not_there():
    done = run({"A": "b"}, ("/nosuch/sbatch", "--parsable"), "dash")
    assert replace(done, stderr=done.stderr.replace(b"dash", b"/bin/sh")) == output("submit-ERR-no-sbatch")


@pytest.mark.parametrize("shell", [SHELLS[0], *(pytest.param(one, marks=pytest.mark.live) for one in SHELLS[1:])])
def test_variables_that_no_program_can_be_started_with_are_refused(shell):
    for env in ({"A": "x" * MAX_ARGUMENT}, {f"A{n}": "x" * 100_000 for n in range(MAX_VARIABLES // 100_000 + 1)}):
        with pytest.raises(Invalid, match="env is too large"):
            Slurm().submit(JobSpec("/", env=env, script=SCRIPT))
    assert load({"A": "x" * (MAX_ARGUMENT - 2)}, shell=shell)[0]["A"] == "x" * (MAX_ARGUMENT - 2)
    nearly = {f"A{n}": "x" * 100_000 for n in range(MAX_VARIABLES // 100_000)}
    done = run(nearly, (sys.executable, "-c", SHOW), shell, base={"B": "x" * 120_000})
    assert done.status == 126, done
    error = errors.submit_error(done)
    assert type(error) is Invalid
    assert "env is too large" in error.public


def test_values_are_in_no_list_of_processes():
    command = Slurm().submit(JobSpec("/", env={"TOKEN": "s3cret"}, script=SCRIPT))
    here = os.fsencode(" ".join(command.argv)) + START_LINE
    assert b"s3cret" not in here
    assert b"s3cret" in command_text(command), "which is sent over standard input"
