"""What the logs of a scheduler's job say of a transfer: how far it is, and why it has failed.

The logs are files of the user's: any content is possible.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import GatewayError
from flamecrest.server.files.remote.replacement.opening import opened_itself
from flamecrest.server.files.remote.writing import within_stall_timeout
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, SftpError

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.transfer.records.record import Record

TAIL: Final = 8192  # bytes of a log that are read
LONGEST: Final = 1000  # characters of a reason
_PROGRESS: Final = re.compile(rb"^\S+ Progress: (\d{1,18}) of (\d{1,18}|unknown) bytes\.$", re.MULTILINE)
_MOVED: Final = re.compile(rb"^\S+ (\d{1,18}) bytes were (?:received|sent)\.$", re.MULTILINE)
_DONE: Final = re.compile(rb"(?:Files were|File was) successfully [a-z]+\.$", re.MULTILINE)
_FAILED: Final = re.compile(r".*(Unable to [a-z ]+), exit status \d+")
# lines of tar and bzip2 that follow the reason, or go before it
_AROUND: Final = re.compile(
    r"tar: (?:Error is not recoverable: exiting now|Exiting with failure status due to previous errors"
    r"|Child returned status \d+|Removing leading .*)|Input file = .*"
)
_SHORT: Final = re.compile(r"tar: .*: Wrote only \d+ of \d+ bytes")
_DATED: Final = re.compile(r"\d{4}-\d\d-\d\dT\S+ |\w{3} \w{3} [ \d]\d [\d:]{8} \w+ \d{4} ")


@dataclass(frozen=True, slots=True)
class JobLog:
    """Bytes done and in total, 0 if not known; the reason of a failure; whether the log says that all is done."""

    done: int | None = None
    total: int = 0
    reason: str = ""
    succeeded: bool = False


async def read_job_log(sftp: Sftp, record: Record) -> JobLog:
    """Read the logs of a job. What cannot be read is as if it were empty."""
    errors, output = await _tail(sftp, record, "errors"), await _tail(sftp, record, "output")
    return parse(errors, output)


def parse(errors: bytes, output: bytes) -> JobLog:
    """What the ends of both logs say."""
    succeeded = _DONE.search(output) is not None
    reason = _reason(errors)
    if moved := _MOVED.findall(errors):
        return JobLog(int(moved[-1]), int(moved[-1]), reason, succeeded)
    if progress := _PROGRESS.findall(errors):
        done, total = progress[-1]
        return JobLog(int(done), 0 if total == b"unknown" else int(total), reason, succeeded)
    return JobLog(None, 0, reason, succeeded)


def _reason(errors: bytes) -> str:
    """The last line, without its date; if that only says that the job has failed, the one that says why."""
    lines = [line for line in map(_plain, errors.decode("utf-8", "replace").splitlines()) if line]
    if not lines:
        return ""
    if len(lines) > 1 and (found := _FAILED.fullmatch(lines[-1])) is not None and "Progress: " not in lines[-2]:
        return f"{found[1]}: {_why(lines[:-1])}"
    return lines[-1]


def _why(lines: list[str]) -> str:
    """The last line that says why a program has failed."""
    told = [line for line in lines if not _AROUND.fullmatch(line)] or lines
    full = [line for line in told if _SHORT.fullmatch(line)]
    if full and told[-1] == full[-1]:  # the compressing program may have said it better
        return next((line for line in reversed(told) if line not in full), f"{full[-1]} (disk full, or quota exceeded)")
    return told[-1]


def _plain(line: str) -> str:
    return "".join(char for char in _DATED.sub("", line.strip(), count=1) if char.isprintable())[:LONGEST]


async def _tail(sftp: Sftp, record: Record, name: str) -> bytes:
    path = record.details.get(name)
    if isinstance(path, str) and path.startswith("/"):
        with suppress(SftpError, GatewayError):
            async with opened_itself(sftp, os.fsencode(path), FLAG_READ, "transfer") as (handle, attrs):
                start = max(0, (attrs.size or 0) - TAIL)
                return await within_stall_timeout(sftp, sftp.read(handle, start, TAIL))
    return b""
