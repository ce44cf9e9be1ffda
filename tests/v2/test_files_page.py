"""docs/users/files/index.md: every command in it runs unchanged."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from .conftest import Api

PAGE = Path(__file__).parents[2] / "docs" / "users" / "files" / "index.md"


def test_all_commands_of_the_page(api: Api, work: str, tmp_path: Path) -> None:
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()
    ]
    assert len(lines) > 35
    script = "set -Eeuo pipefail\ntrap 'echo \"$BASH_COMMAND\" >&2' ERR\n" + "\n".join(lines)
    said = {"API": api.url, "SYSTEM": api.system, "TOKEN": api.token, "WORK": work}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, **said},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-1000:]
    assert (tmp_path / "copy.txt").read_bytes() == (tmp_path / "big.txt").read_bytes()
    assert (tmp_path / "part.txt").read_bytes() == (tmp_path / "big.txt").read_bytes()
    shown = done.stdout.decode()
    for expected in (
        "Content-Range: bytes 0-99/",
        "accept-ranges: bytes",
        "run/1.out",
        "tus-version",
        '"status":404',
    ):
        assert expected in shown, expected
