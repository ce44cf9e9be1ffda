"""What logs of jobs say of a transfer; their content may be anything."""

from __future__ import annotations

import pytest

from flamecrest.server.transfer.tracking.job_log import JobLog, parse

DATE = b"Sun Nov 29 17:06:37 UTC 2026 "
STAMP = b"2026-11-29T17:06:37Z "
SHORT = b"tar: /home/ada/.f7t_archive_x/new: Wrote only 2048 of 10240 bytes\n"
ENDS = b"tar: Error is not recoverable: exiting now\n"
TAR = [  # of GNU tar 1.34 and the programs that it runs, on a full disk, and with archives that are none
    (SHORT + ENDS, f"{SHORT.decode().strip()} (disk full, or quota exceeded)"),
    (
        b"\ngzip: stdout: No space left on device\n" + SHORT + b"tar: Child returned status 1\n" + ENDS,
        "gzip: stdout: No space left on device",
    ),
    (
        b"\nbzip2: I/O or other error, bailing out.  Possible reason follows.\nbzip2: No space left on device\n"
        b"\tInput file = (stdin), output file = (stdout)\n" + SHORT + b"tar: Child returned status 1\n" + ENDS,
        "bzip2: No space left on device",
    ),
    (
        b"xz: (stdout): Write error: No space left on device\n" + SHORT + b"tar: Child returned status 1\n" + ENDS,
        "xz: (stdout): Write error: No space left on device",
    ),
    (
        (
            b"tar: tree/f3: Wrote only 9728 of 10240 bytes\ntar: tree/f4: Cannot write: No space left on device\n"
            b"tar: Exiting with failure status due to previous errors\n"
        ),
        "tar: tree/f4: Cannot write: No space left on device",
    ),
    (
        b"\ngzip: stdin: not in gzip format\ntar: Child returned status 1\n" + ENDS,
        "gzip: stdin: not in gzip format",
    ),
    (
        b"\ngzip: stdin: unexpected end of file\ntar: Unexpected EOF in archive\n" + ENDS,
        "tar: Unexpected EOF in archive",
    ),
    (ENDS, ENDS.decode().strip()),
]


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
        *(
            (
                log + DATE + b"Unable to compress files, exit status 2\n",
                JobLog(None, 0, f"Unable to compress files: {why}"),
            )
            for log, why in TAR
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
