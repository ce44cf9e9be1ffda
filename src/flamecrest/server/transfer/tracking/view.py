"""What is shown of a transfer: its rate, when it will end, and what can be done about an error. No I/O."""

from __future__ import annotations

import os
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from flamecrest.server.schedulers.reason_hints import reason_hint
from flamecrest.server.schedulers.values import Stage
from flamecrest.server.transfer.records import names

from .port import State, TransferView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flamecrest.server.schedulers.values import Job
    from flamecrest.server.transfer.records.names import RecordFiles
    from flamecrest.server.transfer.records.record import End, Progress, Record

    from .then import Submitted

_UNDER_WAY: Final[Mapping[Stage, State]] = MappingProxyType({Stage.WAITING: "PENDING", Stage.RUNNING: "RUNNING"})
# the ends of a job that are no failure of it
_ENDS: Final[Mapping[str, State]] = MappingProxyType(
    {"COMPLETED": "COMPLETED", "CANCELLED": "CANCELLED", "TIMEOUT": "TIMEOUT", "DEADLINE": "TIMEOUT"}
)
_HINTS: Final = (
    (("was damaged",), "Remove the transfer with DELETE. Then start it again."),
    (("disk full", "quota", "no space"), "Free space, or ask for more quota. Then retry the transfer."),
    (
        (
            "unexpected eof",
            "unexpected end of",
            "not in gzip format",
            "not look like a tar",
            "not a bzip2 file",
            "format not recognized",
        ),
        "Check that the archive is whole, and that `compression` is the one that it was made with.",
    ),
    (("permission denied",), "Check that you may read the source and write to the folder of the target."),
    (("no such file",), "Check the path. What does not exist any more cannot be transferred."),
    (("time limit",), "Transfer less at once, or ask the centre for more time for such jobs. Then retry the transfer."),
    (("not finished in time", "expired", "took too long"), "Start the transfer again, or retry it."),
    (("changed", "shorter while", "temporarily unavailable"), "Retry the transfer when nothing writes to the files."),
    (("sha-256", "etag", "checksum"), "Send the file, or the parts that the error names, again."),
    (("parts have not been sent",), "Send the missing parts, then complete the upload."),
    (
        ("not a regular file any more", ": is a directory", "leads to another file now"),
        "Look what is at the target's path now. Remove it, or choose another path, and start the transfer again.",
    ),
    (("the target or its folder was",), "Choose a path in a folder that exists, and start the transfer again."),
    (("a folder is in the way",), "Remove the folder, or synchronize with `delete`."),
    (("started the job again",), "Look at what the first run has left. Then retry the transfer."),
    (("code is not that of",), "Begin a new transfer, with the code that the sender shows."),
    (("in time.", "client was lost"), "Retry the transfer, and start the client when the job is RUNNING."),
    (("was stopped", "connection", "ended early", "stopped answering"), "Retry the transfer: it goes on."),
)


def state_of(job: Job) -> State:
    """The state of a transfer with this job of the scheduler."""
    return _UNDER_WAY.get(job.stage) or _ENDS.get(job.state, "FAILED")


def hint(error: str | None) -> str | None:
    """What can be done about an error; None if that is not known."""
    text = (error or "").lower().replace("unchanged", "")  # what is said of an older file
    return next((advice for words, advice in _HINTS if any(word in text for word in words)), None)


def view(
    files: RecordFiles,
    record: Record,
    state: State,
    end: End | None,
    progress: Progress | None,
    reason: str | None,
    then: Submitted | None,
) -> TransferView:
    """The view of a transfer. `reason` is its error, or why it is pending."""
    done = _bytes_done(record, state, progress)
    total = (progress.total if progress is not None and progress.total else record.size) or None
    until = end.at if end is not None else int(time.time()) if progress is None else progress.at
    rate = done / max(1, until - record.created) if done and record.direction != "download" else None
    remaining = (
        None if state != "RUNNING" or not rate or total is None or done is None else max(0, int((total - done) / rate))
    )
    system = record.details.get("system")
    waits = reason if state == "PENDING" else None
    shown = None if state in {"COMPLETED", "PENDING"} else reason
    return TransferView(
        files.transfer, record.method, record.direction, state, record.path, record.target or None,
        str(system) if system else None, (progress.job_id if progress is not None else "") or record.job_id or None,
        record.created, None if end is None else end.at,
        names.expiry(files.transfer) if end is None and record.method == "direct" else None,
        done, total, progress.files if progress is not None and record.direction == "internal" else None, rate,
        remaining,
        (end.etag if end is not None else "") or None, (end.sha256 if end is not None else "") or None,
        shown or (then.error if then is not None else None), reason_hint(waits) or hint(shown),
        _log(record, "output", files.log), _log(record, "errors", files.errors), None if then is None else then.job_id,
        bool(record.details.get("delete")), waits,
    )  # fmt: skip


def _bytes_done(record: Record, state: State, progress: Progress | None) -> int | None:
    """The bytes that were transferred; None if that is not known."""
    of_file = record.direction != "internal"  # nobody counts what a job for files copies
    if state == "COMPLETED" and of_file and (record.size or progress is None):
        return record.size  # the last progress is that of a while before
    return None if progress is None else progress.done


def damaged_view(files: RecordFiles, created: int, error: str) -> TransferView:
    """The view of a transfer whose record cannot be read."""
    return TransferView(
        files.transfer, None, None, "FAILED", "", None, None, None, created, created, None, None, None, None, None,
        None, None, None, error, hint(error), os.fsdecode(files.log), os.fsdecode(files.errors), None,
    )  # fmt: skip


def _log(record: Record, name: str, path: bytes) -> str:
    """The path of a log; the jobs of the scheduler have their own."""
    own = record.details.get(name)
    return own if record.job_id and isinstance(own, str) and own else os.fsdecode(path)
