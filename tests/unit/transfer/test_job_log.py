"""What logs of jobs say of a transfer; their content may be anything."""

from __future__ import annotations

import pytest

from flamecrest.server.transfer.tracking.job_log import JobLog, parse

DATE = b"Sun Nov 29 17:06:37 UTC 2026 "
STAMP = b"2026-11-29T17:06:37Z "


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (b"", JobLog()),
        (STAMP + b"Progress: 5 of 9 bytes.\n", JobLog(5, 9, "Progress: 5 of 9 bytes.")),
        (STAMP + b"Progress: 5 of unknown bytes.\n", JobLog(5, 0, "Progress: 5 of unknown bytes.")),
        (STAMP + b"Progress: 5 of 9 bytes.\n" + STAMP + b"9 bytes were sent.\n", JobLog(9, 9, "9 bytes were sent.")),
        (
            b"mv: cannot stat 'x': Permission denied\n" + DATE + b"Unable to move files, exit status 1\n",
            JobLog(None, 0, "Unable to move files: mv: cannot stat 'x': Permission denied"),
        ),
        (DATE + b"Unable to move files, exit status 1\n", JobLog(None, 0, "Unable to move files, exit status 1")),
        (
            DATE + b"Unable to move files: the scheduler has started the job again. Look.\n",
            JobLog(None, 0, "Unable to move files: the scheduler has started the job again. Look."),
        ),
        (b"\xff\x00\x1b[2J\n", JobLog(None, 0, "\ufffd[2J")),
        (b"x" * 9000, JobLog(None, 0, "x" * 1000)),
        (STAMP + b"Progress: " + b"9" * 5000 + b" of 1 bytes.", None),
    ],
)
def test_the_error_log(errors: bytes, expected: JobLog | None) -> None:
    found = parse(errors, b"")
    assert found == expected if expected is not None else found.done is None


def test_the_output_log() -> None:
    assert parse(b"", DATE + b"Files were successfully moved.\n").succeeded
    assert parse(b"", DATE + b"File was successfully uploaded.\n").succeeded
    assert not parse(DATE + b"Files were successfully moved.\n", b"Move files job (id: 1)\n").succeeded
