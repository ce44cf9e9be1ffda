"""The head of a job script, and the directives in it. Hostile scripts must not hold up the gateway."""

from __future__ import annotations

import pytest

from flamecrest.server.errors import Invalid
from flamecrest.server.schedulers.script_head import directive_lines, split_head
from flamecrest.server.schedulers.slurm.directives import check_switches
from flamecrest.server.schedulers.slurm.rest.directives import has_directives, with_directives
from flamecrest.server.schedulers.slurm.rest.versions import ApiVersion
from flamecrest.server.schedulers.values import JobSpec

REST = ApiVersion(42)


@pytest.mark.parametrize(
    ("script", "head"),
    [
        ("", ""), ("true\n", ""), ("#!/bin/sh\n", "#!/bin/sh\n"), ("#!/bin/sh", "#!/bin/sh"),
        ("#!/bin/sh\n\n \t\r\n  # text\n#X\ntrue\n#Y\n", "#!/bin/sh\n\n \t\r\n  # text\n#X\n"),
        ("# a\x0bb\u2028c\x1cd\n  true", "# a\x0bb\u2028c\x1cd\n"),
    ],
)  # fmt: skip
def test_the_head_ends_with_the_first_command(script: str, head: str) -> None:
    assert split_head(script) == (head, script[len(head) :])


def test_directives_are_whole_lines_of_the_head() -> None:
    script = "#!/bin/sh\n#SBATCH -n1 \n #SBATCH -n2\n#SBATCHES\n  # text\n#PBS\n#SBATCH\t-H\ntrue\n#SBATCH -n3\n"
    assert list(directive_lines(script, "SBATCH|PBS")) == [("SBATCH", "-n1"), ("PBS", ""), ("SBATCH", "-H")]


# Each of them took seconds to hours when a part of a pattern could match what another one can.
@pytest.mark.parametrize(
    "line",
    ["-" + "H" * 300_000 + "1", "-v " * 300_000, "'" * 999_999, '"\\' * 300_000, " " * 999_999, "--exclus" * 99_999],
)
def test_long_lines_take_no_time(line: str) -> None:
    spec = JobSpec("/w", f"#!/bin/sh\n#SBATCH {line}\n", hold=False)
    check_switches(spec)
    if line.strip():
        with pytest.raises(Invalid, match="script: has more than"):
            with_directives(spec, 0.0, REST)
    assert has_directives(spec.script or "")


@pytest.mark.parametrize("lines", ["#SBATCH -v\n", "\n", "#\n", " \t\n"])
def test_many_lines_take_no_time(lines: str) -> None:
    script = "#!/bin/sh\n" + lines * 500_000
    assert split_head(script)[1] == ""
    assert has_directives(script) is ("SBATCH" in lines)


def test_many_words_of_a_directive_take_no_time() -> None:
    script = "#!/bin/sh\n#SBATCH " + "-v " * 20_000 + "--nodes=3\n"
    assert with_directives(JobSpec("/w", script), 0.0, REST)[0].resources.nodes == 3
