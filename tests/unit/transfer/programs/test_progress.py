"""What the log of a job says of its progress."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from flamecrest.server.transfer.programs.progress import SHORTEST, Meter
from flamecrest.server.transfer.programs.wormhole_job import position_in


def test_lines_are_rare_and_say_how_many_bytes_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    meter = Meter(300)
    meter.note(100)
    assert not capsys.readouterr().err
    meter.last -= SHORTEST
    meter.note(200)
    meter.note(250)
    assert re.fullmatch(r"\S+ Progress: 200 of 300 bytes\.\n", capsys.readouterr().err)
    meter.last -= SHORTEST
    meter.note(200)
    assert not capsys.readouterr().err


def test_lines_of_long_transfers_become_rarer(capsys: pytest.CaptureFixture[str]) -> None:
    meter = Meter(0)
    meter.begun -= 3600
    meter.last = time.monotonic() - 100
    meter.note(1)
    assert not capsys.readouterr().err
    meter.last -= 100
    meter.note(2)
    assert "Progress: 2 of unknown bytes." in capsys.readouterr().err


def test_how_far_a_program_has_read_a_file(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(bytes(5000))
    other.write_bytes(b"")
    with path.open("rb", buffering=0) as file:
        file.read(1234)
        assert position_in(os.getpid(), path.stat()) == 1234
        assert position_in(os.getpid(), other.stat()) == 0
