"""Scripts that are read for batch systems which take texts only: each file is a text or a clear error."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flamecrest.server.errors import Invalid, TooLarge
from flamecrest.server.schedulers.script_files import LIMIT, read_script
from flamecrest.server.ssh.command import Output


def read(path: str) -> str:
    command = read_script(path)
    done = subprocess.run(command.argv, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"})
    return command.parse(Output(done.returncode, done.stdout, done.stderr))


@pytest.mark.parametrize("name", ["job.sh", "-rf", "it's $(id) é", "two words"])
@pytest.mark.parametrize("text", ["", "#!/bin/sh\ntrue\n", "#!/bin/sh\r\necho 'é 漢'"])
def test_a_text_is_read_unchanged(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, newline="")
    assert read(f"{tmp_path}/{name}") == text


def test_what_is_no_text_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"#!/bin/sh\n# \xe9\n")
    (tmp_path / "large").write_bytes(b"x" * (LIMIT + 1))
    os.mkfifo(tmp_path / "fifo")
    for path, reason in (
        (f"{tmp_path}/missing", "cannot be read: No such file or directory"),
        (str(tmp_path), "cannot be read: Is a directory"),
        (f"{tmp_path}/fifo", "cannot be read: Not a regular file"),
        (f"{tmp_path}/latin", "no text in UTF-8"),
        ("job.sh", "absolute"),
        ("/a\nb", "scriptPath"),
    ):
        with pytest.raises(Invalid, match=reason) as caught:
            read(path)
        assert [one.name for one in caught.value.fields] == ["scriptPath"]
    with pytest.raises(TooLarge, match="larger than 16 MiB"):
        read(f"{tmp_path}/large")
    with pytest.raises(TooLarge):
        read("/dev/zero")
