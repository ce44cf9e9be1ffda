"""A script that is killed with all its programs leaves no temporary directory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from flamecrest.server.files.remote.commands.copying import copy_script


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_copy_that_is_killed(tmp_path, number):
    (tmp_path / "tree").mkdir()
    for name in range(2000):
        (tmp_path / "tree" / str(name)).touch()
    (tmp_path / "tree").chmod(0o555)
    argv = copy_script(str(tmp_path / "tree"), str(tmp_path / "copy"), overwrite=True, dereference=False).argv
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + 20
    while not list(tmp_path.glob(".f7t_copy_*/new/1*")) and process.poll() is None:
        assert time.monotonic() < end
    with suppress(ProcessLookupError):  # a slow machine sees only the end
        os.killpg(process.pid, number)
    process.wait(20)
    while list(tmp_path.glob(".f7t_*")):
        assert time.monotonic() < end
        time.sleep(0.01)
    copied = tmp_path / "copy"
    assert not copied.exists() or len(list(copied.iterdir())) == 2000
