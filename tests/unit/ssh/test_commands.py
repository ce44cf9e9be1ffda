"""The quoted shell line, and the parsers of this room's own commands."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamecrest.server.errors import Invalid, Unsupported, Upstream
from flamecrest.server.ssh.channels.agent import stat_question
from flamecrest.server.ssh.channels.stat_command import stat_command
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.errors import StatError
from flamecrest.server.ssh.start_line import (
    BEGIN,
    BEGIN_ERRORS,
    GREETING,
    MAX_ARGUMENT,
    MAX_PREAMBLE,
    PRELUDE,
    START_LINE,
    Preamble,
    command_text,
    split_end,
)
from flamecrest.server.ssh.user import whoami
from flamecrest.server.telemetry.trace import Trace, current_trace
from tests.unit.ssh.channels.asking import answers

anything = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40)


def same(output: Output) -> Output:
    return output


def told(text: bytes, shell: str = "dash", **more) -> tuple[bytes, bytes, int]:
    """Run the start line as a login shell does and tell it the text; the command's output, errors and exit status."""
    done = subprocess.run([shell, "-c", START_LINE], input=PRELUDE + text, capture_output=True, check=True, **more)
    assert GREETING.search(done.stdout)
    found = split_end(Preamble(BEGIN).strip(done.stdout))
    assert found is not None
    return found[0], Preamble(BEGIN_ERRORS).strip(done.stderr), found[1]


@settings(max_examples=20)
@given(
    st.lists(st.one_of(anything, st.binary(max_size=20).map(lambda b: os.fsdecode(b.replace(b"\0", b"")))), max_size=4)
)
def test_arguments_arrive_unchanged(words):
    assert told(command_text(Command(("printf", "%s\\0", *words), same), 5))[0] == b"".join(
        os.fsencode(word) + b"\0" for word in words or [""]
    )


def test_variables_and_locale_are_set_and_timeout_ends_the_command():
    text = command_text(Command(("env",), same, env={"SLURM_TIME_FORMAT": "%s a'b\n"}), 2.2)
    assert b" timeout -k 2 8 " in text
    got = told(text)[0]
    assert b"\nLC_ALL=C\n" in got
    assert b"\nSLURM_TIME_FORMAT=%s a'b\n\n" in got


@pytest.mark.parametrize("request_id", ["3bfe0f14e629347f", "it's $(id) `id`", None])
@pytest.mark.parametrize("for_job", [False, True])
def test_a_command_knows_the_request_that_it_serves(request_id: str | None, for_job: bool):
    token = current_trace.set(None if request_id is None else Trace(request_id, "c"))
    try:
        text = command_text(Command(("env",), same, for_job=for_job), 5)
    finally:
        current_trace.reset(token)
    lines = [line for line in told(text)[0].split(b"\n") if line.startswith(b"FLAMECREST")]
    assert lines == ([] if request_id is None else [f"FLAMECREST_REQUEST_ID={request_id}".encode()])


@pytest.mark.parametrize("command", [Command(("ls", "a\0b"), same), Command(("ls",), same, env={"A": "\0"})])
def test_nul_is_refused(command):
    with pytest.raises(Invalid):
        command_text(command)


def test_what_no_program_can_be_given_is_refused():
    command_text(Command(("echo", "x" * MAX_ARGUMENT), same))
    for argv in (("echo", "x" * (MAX_ARGUMENT + 1)), ("echo", *("é" * 60_000,) * 10)):
        with pytest.raises(Invalid, match="too long"):
            command_text(Command(argv, same))


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("trace", ["", "set -x; ", "set -v; ", "export SHELLOPTS; set -xveu; "])
def test_text_of_login_scripts_is_not_output(shell, trace):
    text = command_text(Command(("sh", "-c", "echo own; echo error >&2; exit 3"), same), 5)
    noisy = f"{trace}echo welcome; echo quota >&2\n".encode() + START_LINE
    done = subprocess.run([shell, "-c", noisy], input=PRELUDE + text, capture_output=True, check=True)
    assert b"welcome" in done.stdout
    assert split_end(Preamble(BEGIN).strip(done.stdout)) == (b"own\n", 3)
    assert Preamble(BEGIN_ERRORS).strip(done.stderr) == b"error\n"


@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(st.integers(0, 140), max_size=8))
def test_the_mark_is_found_however_it_is_cut(noise, own, cuts):
    preamble, whole = Preamble(BEGIN), noise + BEGIN.encode() + b"\n" + own
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    assert b"".join(preamble.strip(whole[a:b]) for a, b in itertools.pairwise(edges)) == own
    assert preamble.ended
    assert not preamble.text


def test_a_long_preamble_is_kept_within_bounds():
    preamble = Preamble(BEGIN)
    for number in range(100):
        assert preamble.strip(b"%d" % number * 5000) == b""
    assert len(preamble.text) == MAX_PREAMBLE
    assert preamble.strip(BEGIN[:9].encode()) == b""
    assert preamble.strip(BEGIN[9:].encode() + b"\nown") == b"own"


def test_whoami_reads_ids_with_and_without_names():
    parse = whoami().parse
    user = parse(Output(0, b"uid=1001(ann) gid=1002(lab) groups=1002(lab),27(sudo),100(domain users)\n"))
    assert (user.user.id, user.user.name, user.group.name) == ("1001", "ann", "lab")
    assert [group.name for group in user.groups] == ["lab", "sudo", "domain users"]
    # a group without a name: `id` exits with 1 and prints the number
    assert parse(Output(1, b"uid=5 gid=6 groups=6,7(x)\n", b"id: cannot find name")).group.name == "6"
    assert parse(Output(0, b"uid=1(a) gid=2(b) groups=2(b) context=u:r:t\n")).groups[0].name == "b"


@pytest.mark.parametrize("text", [b"", b"uid=", b"hello\n", b"\xff\xfe", b"uid=x(y) gid=z"])
def test_whoami_does_not_guess(text):
    with pytest.raises(Upstream):
        whoami().parse(Output(0, text))


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (b"stat: cannot statx '/x': No such file or directory", errno.ENOENT),
        (b"stat: cannot statx '/x': Permission denied", errno.EACCES),
        (b"stat: cannot statx '/x/y': Not a directory", errno.ENOTDIR),
        (b"stat: cannot statx '/x': Stale file handle", errno.ESTALE),
    ],
)
def test_stat_by_command_maps_messages_to_errno(said, number):
    with pytest.raises(StatError) as caught:
        stat_command("/x", follow=False).parse(Output(1, b"", said))
    assert caught.value.errno == number


def test_stat_by_command_and_by_agent_agree_with_os_stat(tmp_path):
    path = tmp_path / "a\nb"
    path.write_bytes(b"123")
    found = path.stat()
    expected = [found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid]
    command = stat_command(str(path), follow=True)
    done = subprocess.run(command.argv, capture_output=True, check=True)
    assert list(command.parse(Output(0, done.stdout)))[:6] == expected
    asked = stat_question(os.fsencode(path), follow=True), stat_question(b"/nonexistent", follow=False)
    found, missing = answers(*asked)
    assert list(found)[:6] == expected
    assert isinstance(missing, StatError)
    assert missing.errno == errno.ENOENT


@pytest.mark.parametrize("seconds", [-5, 0, 1, 1_700_000_000, 2**32 + 5])
@pytest.mark.parametrize("part", [0, 1, 500_000_000, 123_456_789, 999_999_999])
def test_times_are_the_same_by_command_and_by_agent(tmp_path, seconds, part):
    path = tmp_path / "f"
    path.touch()
    os.utime(path, ns=(seconds * 10**9, seconds * 10**9 + part))
    found = path.stat()
    command = stat_command(str(path), follow=True)
    done = subprocess.run(command.argv, capture_output=True, check=True)
    by_command = command.parse(Output(0, done.stdout))
    (by_agent,) = answers(stat_question(os.fsencode(path), follow=True))
    assert by_agent[:13] == by_command[:13]
    assert 0 < by_agent[13] / 1e6 - found.st_ctime_ns / 1e9 < 60
    assert by_command[13] == 0
    assert by_command[8:11] == tuple(t // 10**9 for t in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns))
    off = by_command[11] - (found.st_mtime_ns % 10**9 if seconds >= 0 else 0)
    assert min(off % 10**9, -off % 10**9) < 1000  # a fraction that is rounded up to a second is 0


NUMBERS = b"65024 131 81a4 1 0 0 0 1432 1796011700 1796011713.681683014 1796011713.681683014"


def test_stat_by_command_takes_its_own_numbers():
    assert stat_command("/x", follow=False).parse(Output(0, NUMBERS))[7] == 1432


@pytest.mark.parametrize(
    "output",
    [
        *(Output(0, printed) for printed in (b"1 2 3", b"", NUMBERS + b"noise\n", b"noise" + NUMBERS)),
        *(Output(0, printed) for printed in (NUMBERS + b"5\n", NUMBERS.replace(b" 0 ", b" noise\n0 ", 1))),
        Output(1, b"", b"boom"),
    ],
)
def test_stat_by_command_does_not_guess(output):
    with pytest.raises(Upstream):
        stat_command("/x", follow=False).parse(output)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (b"timeout: failed to run command 'stat': No such file or directory", ": stat"),
        (b"bash: line 1: exec: stat: not found", ": stat"),
        (b"noise\n/bin/sh: 1: g++-12: not found\ntar: Child returned status 127", ": g++-12"),
        (b"bash: line 31: tar: command not found", ": tar"),
        (b"tar (child): xz: Cannot exec: No such file or directory", ": xz"),
        (b"zsh:1: command not found: stat", ""),
        (b"bash: $(x): command not found", ""),
    ],
)
def test_a_program_that_is_not_installed_is_named(said, name):
    with pytest.raises(Unsupported) as caught:
        stat_command("/x", follow=False).parse(Output(127, b"", said))
    assert caught.value.public == f"The program that this needs is not installed on the cluster{name}"
    with pytest.raises(Unsupported):
        whoami().parse(Output(127, b"", said))
    for status in (0, 1, 125, 128):
        Output(status, b"", said).check_installed()
