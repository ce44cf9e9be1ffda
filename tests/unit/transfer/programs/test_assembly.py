"""The text of programs that job scripts carry."""

from __future__ import annotations

import ast

import pytest

from flamecrest.server.transfer.programs.assembly import assemble
from flamecrest.server.transfer.programs.script import python_script
from flamecrest.server.transfer.streamer.methods import RECEIVE, SEND
from flamecrest.server.transfer.wormhole.methods import PROGRAM

PROGRAMS = {"receive": RECEIVE, "send": SEND, "wormhole": PROGRAM}
LIBRARY = {
    "base64", "contextlib", "errno", "hashlib", "hmac", "json", "os", "select", "shutil", "signal", "socket", "ssl",
    "stat", "struct", "subprocess", "sys", "tempfile", "threading", "time",
}  # fmt: skip


@pytest.mark.parametrize("modules", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_runs_with_old_python(modules: tuple[str, ...]) -> None:
    """Python 3.6 can parse it, nothing is imported but the standard library, and no name is defined twice."""
    program = ast.parse(assemble(*modules), feature_version=(3, 6))
    imports = [one for one in ast.walk(program) if isinstance(one, ast.Import | ast.ImportFrom)]
    names = {alias.name for one in imports if isinstance(one, ast.Import) for alias in one.names}
    names |= {str(one.module) for one in imports if isinstance(one, ast.ImportFrom)}
    assert names <= LIBRARY
    defined = [one.name for one in program.body if isinstance(one, ast.FunctionDef | ast.ClassDef)]
    assert sorted(defined) == sorted(set(defined))
    assert not [one for one in ast.walk(program) if isinstance(one, ast.AnnAssign | ast.NamedExpr)]


def test_no_line_of_a_script_is_a_directive() -> None:
    for modules in PROGRAMS.values():
        text = python_script("/opt/it's/python3", *modules).text
        assert not [line for line in text.splitlines() if line.startswith(("#SBATCH", "#PBS"))]
