"""docs/users: the shell commands and Python programs on these pages run unchanged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Api

PAGES = Path(__file__).parents[2] / "docs" / "users"
SHELL = "set -Eeuo pipefail\ntrap 'echo \"$BASH_COMMAND\" >&2' ERR\n"

pytestmark = pytest.mark.timeout(120)  # jobs are waited for


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (PAGES / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)


def run(argv: list[str], api: Api, work: str, cwd: Path) -> str:
    places = {"API": api.url, "SYSTEM": api.system, "TOKEN": api.token, "WORK": work, "ACCOUNT": api.account}
    environment = {**os.environ, **places, "PYTHONWARNINGS": "default"}
    done = subprocess.run(argv, check=False, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-1000:]
    return done.stdout.decode()


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("jobs.md", ("commas, quotes ' and new lines", '"script":', "hello.out")),
        ("transfers.md", ('"transferJob"', "one.txt")),
    ],
)
def test_shell(api: Api, work: str, tmp_path: Path, page: str, expected: tuple[str, ...]) -> None:
    lines = blocks("index.md", "sh") + blocks(page, "sh")
    assert len(lines) > 1
    shown = run(["bash", "-c", SHELL + "".join(lines)], api, work, tmp_path)
    for text in ("fireuser", "debug", *expected):
        assert text in shown, text


@pytest.mark.parametrize(("number", "expected"), [(0, "COMPLETED"), (1, "50 files\n12 bytes\n")])
def test_python(api: Api, work: str, tmp_path: Path, number: int, expected: str) -> None:
    assert expected in run([sys.executable, "-c", blocks("clients.md", "python")[number]], api, work, tmp_path)
