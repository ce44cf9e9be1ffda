"""The caller's own options of qsub, and directives that would hide a job from its submission."""

from __future__ import annotations

import pytest

from flamecrest.server.errors import Invalid
from flamecrest.server.schedulers.job_errors import DoubtfulAnswer
from flamecrest.server.schedulers.pbs.submission import submit
from flamecrest.server.schedulers.values import JobSpec
from flamecrest.server.ssh.command import RUNNING, Output

SCRIPT = "#!/bin/sh\n"
OTHER_SCRIPT = "#!/bin/sh\ncat > other <<E\n#PBS -v A=1 -k n -N other\nE\n"


@pytest.mark.parametrize(
    "option", ["-lplace=free", "-Pproj", "-Wumask=077", "-Wblocks=1", "-f", "-hNname", "-V", "-NzI"]
)
def test_options_that_reach_qsub(option: str) -> None:
    assert option in submit("", JobSpec("/w", SCRIPT, native=(option,))).argv


@pytest.mark.parametrize(
    "option",
    ["-I", "-X", "-z", "-C#X", "-vA=1", "-hI", "-fVz", "-hvA=1", "-Wblock=true", "-W block = true", "-Wumask=7,block=1",
     "-WBlock=true", "-fWinteractive=1", "-WVariable_List=A=1", "--", "-", "x", "/bin/sh", "-Na\nb"],
)  # fmt: skip
def test_options_that_the_gateway_needs_itself(option: str) -> None:
    with pytest.raises(Invalid) as caught:
        submit("", JobSpec("/w", SCRIPT, native=(option,)))
    assert [field.name for field in caught.value.fields] == ["native"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (JobSpec("/w", SCRIPT, name="a", native=("-Nb",)), "name"),
        (JobSpec("/w", SCRIPT, hold=True, native=("-fh",)), "hold"),
        (JobSpec("/w", SCRIPT, partition="p", native=("-hqq",)), "partition"),
    ],
)
def test_options_do_not_contradict_fields(spec: JobSpec, field: str) -> None:
    with pytest.raises(Invalid, match=f"contradicts the field `{field}`"):
        submit("", spec)


def test_lines_that_are_no_directives_take_no_option_from_the_job() -> None:
    argv = submit("", JobSpec("/w", OTHER_SCRIPT, marker="fc-1", script_name="run.sh")).argv
    assert [argv[argv.index(option) + 1] for option in ("-v", "-k", "-N")] == [
        "FLAMECREST_MARKER=fc-1",
        "oed",
        "run.sh",
    ]


def test_only_a_line_feed_ends_a_comment() -> None:
    sent = submit("", JobSpec("/w", "#!/bin/sh\n# a\x0cb\u2028c\n#PBS -V\nd\n")).stdin or b""
    assert sent.decode() == "#!/bin/sh\n# a\x0cb\u2028c\n#PBS -V\ncd /w || exit\nd\n"


def test_a_job_whose_id_is_hidden_is_searched_for() -> None:
    hidden = Output(0, b"", b"")
    with pytest.raises(DoubtfulAnswer):
        submit("", JobSpec("/w", "#!/bin/sh\n#PBS -z\n", marker="fc-1")).parse(hidden)


def test_qsub_is_not_waited_for_once_it_has_printed_the_id() -> None:
    enough = submit("", JobSpec("/w", "#!/bin/sh\n#PBS -W block=true\n")).is_enough
    assert enough is not None
    assert enough(Output(RUNNING, b"12.vm\n"))
    assert not enough(Output(RUNNING, b"warning\n12.v"))
