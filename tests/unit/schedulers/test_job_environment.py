"""The loader for environment and script, run by real bash with a program that prints what it received."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import example, given, settings
from hypothesis import strategies as st

from flamecrest.server.schedulers.job_environment import BASH_OWN, LOADER
from flamecrest.server.schedulers.slurm.dialect import Slurm
from flamecrest.server.schedulers.values import JobSpec

from .recorded import output

SCRIPT = "#!/bin/bash\ntrue\n"
SHOW = (
    "import os, sys; sys.stdout.buffer.write(b'\\0'.join([os.fsencode(x) for x in sys.argv[1:]]) + b'\\0\\0'"
    " + b'\\0'.join(k + b'=' + v for k, v in os.environb.items()) + b'\\0\\0' + sys.stdin.buffer.read())"
)


def load(env: dict[str, str], script: str = SCRIPT, base: dict[str, str] | None = None, program: str = sys.executable):
    """Run the loader as a login node does. Returns the program's environment, remaining input, and errors."""
    command = Slurm().submit(JobSpec("/", env=env, script=script))
    argv = ["bash", "-c", LOADER, "flamecrest", program, "-c", SHOW, "--chdir=a b"]
    base = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", **(base or {})}
    done = subprocess.run(argv, input=command.stdin, capture_output=True, env=base, check=False)
    assert done.returncode == 0, done.stderr
    options, variables, rest = done.stdout.split(b"\0\0", 2)
    assert options == b"--chdir=a b"
    pairs = (entry.partition(b"=") for entry in variables.split(b"\0"))
    return {name.decode(): value.decode() for name, _, value in pairs}, rest.decode(), done.stderr


def test_hostile_environment_arrives_as_it_is():
    env = {
        "COMMA": "a,b=c",
        "LINES": "one\ntwo\n\n",
        "QUOTES": 'it\'s "x" `id` $(id) $HOME \\n %s !!',
        "UNICODE": "é漢字🔥",
        "EMPTY": "",
        "SPACES": "  a  b\t ",
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
    found, rest, said = load(env)
    assert {name: found.get(name) for name in env} == env
    assert (rest, said) == (SCRIPT, b"")


@settings(max_examples=15)
@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
            lambda name: (
                name not in BASH_OWN and not name.startswith(("BASH", "LC_", "LD_", "PYTHON", "MALLOC", "LANG"))
            )
        ),
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30),
        max_size=4,
    ),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=100),
)
@example({"A": "a[$(touch /tmp/never)]"}, "")
def test_any_environment_arrives_as_it_is(env, script):
    found, rest, _ = load(env, script)
    assert {name: found.get(name) for name in env} == env
    assert rest == script


def test_our_locale_stays_ours():
    found, rest, said = load({})
    assert "LC_ALL" not in found
    assert not {"run", "FLAMECREST_ENTRY"} & set(found)
    assert (rest, said) == (SCRIPT, b"")


def test_a_large_script_arrives_whole():
    script = "#!/bin/sh\n" + "# 0123456789\n" * 100_000
    assert load({"A": "b"}, script)[1] == script


def test_names_that_bash_keeps_are_all_refused():
    """Every variable that this bash changes, evaluates or keeps is in BASH_OWN."""
    clean = {"PATH": "/usr/bin:/bin"}  # without what whoever runs the tests has set for programs
    asked = subprocess.run(["bash", "-c", "compgen -v"], env=clean, capture_output=True, check=True, text=True)
    names = asked.stdout.split()
    env = dict.fromkeys(sorted(set(names) - BASH_OWN - {"LC_CTYPE"}), "7q")  # Python itself sets LC_CTYPE where none is
    found, _, said = load(env)
    assert {name: found.get(name) for name in env} == env
    assert said == b""


def test_a_program_that_is_not_there():
    argv = ["bash", "-c", LOADER, "flamecrest", "/nosuch/sbatch", "--parsable"]
    done = subprocess.run(argv, input=b"\0", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (127, b"")
    assert (done.returncode, done.stderr) == (
        output("submit-ERR-no-sbatch").status,
        output("submit-ERR-no-sbatch").stderr,
    )
