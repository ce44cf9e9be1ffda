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
    return run_example(argv, api.url, api.system, api.token, work, cwd, ACCOUNT=api.account)


def run_example(argv: list[str], url: str, system: str, token: str, work: str, cwd: Path, **variables: str) -> str:
    """The standard output of a command; it must succeed."""
    places = {"API": url, "SYSTEM": system, "TOKEN": token, "WORK": work, **variables}
    environment = {**os.environ, **places, "PYTHONWARNINGS": "default"}
    done = subprocess.run(argv, check=False, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-1000:]
    return done.stdout.decode()


def example(word: str) -> list[str]:
    """The command of the example on the page about transfers that needs a special centre, with what is above it."""
    first = blocks("index.md", "sh")[0].splitlines(keepends=True)[:3]
    (found,) = [block for block in blocks("transfers.md", "bash") if word in block]
    begun = blocks("transfers.md", "sh")[0].splitlines(keepends=True)[:5]
    return ["bash", "-c", SHELL + "".join([*first, *begun, found])]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("jobs.md", ("commas, quotes ' and new lines", '"script":', "hello.out")),
        ("transfers.md", ('"transferJob"', "one.txt", "CompleteMultipartUploadResult", '"transfers":[', '"counts":')),
    ],
)
def test_shell(api: Api, work: str, tmp_path: Path, page: str, expected: tuple[str, ...]) -> None:
    lines = blocks("index.md", "sh") + blocks(page, "sh")
    assert len(lines) > 1
    shown = run(["bash", "-c", SHELL + "".join(lines)], api, work, tmp_path)
    for text in (api.user, "debug", *expected):
        assert text in shown, text


@pytest.mark.parametrize(
    ("page", "number", "expected"),
    [
        ("clients.md", 0, "COMPLETED"),
        ("clients.md", 1, "50 files\n12 bytes\n"),
        ("transfers.md", 0, "saved results"),
        ("transfers.md", 1, "3000000"),
    ],
)
def test_python(api: Api, work: str, tmp_path: Path, page: str, number: int, expected: str) -> None:
    assert expected in run([sys.executable, "-c", blocks(page, "python")[number]], api, work, tmp_path)
