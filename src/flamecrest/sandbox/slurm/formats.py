"""Parse and format Slurm's values: times, durations, node expressions, array expressions and exit codes."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn

    from .store import StoredJob

MAX_ARRAY_SIZE = 1001  # MaxArraySize
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SHORT_STATES = {
    "PENDING": "PD",
    "RUNNING": "R",
    "COMPLETING": "CG",
    "COMPLETED": "CD",
    "CANCELLED": "CA",
    "FAILED": "F",
    "TIMEOUT": "TO",
    "NODE_FAIL": "NF",
    "SUSPENDED": "S",
}


class CommandFailedError(Exception):
    """Ends the program with these lines on standard error and this exit status."""

    def __init__(self, *lines: str, status: int = 1) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.status = status


def write_output(text: str) -> None:
    """Write to standard output. The text may contain surrogate-escaped bytes."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def write_error(text: str) -> None:
    """Write a line to standard error."""
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
    sys.stderr.buffer.flush()


def format_time(seconds: int, nothing: str = "Unknown") -> str:
    """Format a time as SLURM_TIME_FORMAT says."""
    if not seconds:
        return nothing
    form = os.environ.get("SLURM_TIME_FORMAT", "standard")
    if form == "%s":
        return str(seconds)
    return time.strftime(form if "%" in form else "%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


def parse_time(text: str) -> int:
    """Parse a time: epoch seconds, uts1764500000, now-24hours, 2026-11-21T20:00[:00], 2026-11-21, today.

    Returns epoch seconds. Raises ValueError.
    """
    now = int(time.time())
    if text.startswith("now"):
        return now + _offset(text[3:])
    if (digits := text.removeprefix("uts")).isdecimal() and len(digits) > 8:
        return int(digits)
    if text in {"today", "midnight"}:
        return int(time.mktime((*time.localtime(now)[:3], 0, 0, 0, 0, 0, -1)))
    for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"):
        try:
            return int(time.mktime((*time.strptime(text, form)[:8], -1)))
        except ValueError:
            continue
    raise ValueError(text)


def _offset(text: str) -> int:
    if not text:
        return 0
    sign = {"+": 1, "-": -1}[text[0]] if text[0] in "+-" else 0
    digits = text[1:].rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[1 + len(digits) :] or "seconds"
    if not sign or not digits.isdecimal() or unit[0] not in SECONDS:
        raise ValueError(text)
    return sign * int(digits) * SECONDS[unit[0]]


def parse_time_limit(text: str) -> int:
    """Parse a time limit of --time. Returns whole minutes, 0 for no limit.

    Raises ValueError.
    """
    if text.upper() in {"INFINITE", "UNLIMITED", "-1"}:
        return 0
    days, dash, rest = text.partition("-")
    parts = [int(part) for part in (rest if dash else text).split(":")]
    if any(part < 0 for part in parts) or len(parts) > 3:
        raise ValueError(text)
    if dash:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return int(days) * 1440 + hours * 60 + minutes + (seconds > 0)
    if len(parts) < 3:
        minutes, seconds = (*parts, 0)[:2]
        return minutes + (seconds > 0)
    return parts[0] * 60 + parts[1] + (parts[2] > 0)


def format_duration(seconds: int) -> str:
    """Format seconds as HH:MM:SS or D-HH:MM:SS."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def format_short_duration(seconds: int) -> str:
    """Format seconds as squeue does: M:SS, H:MM:SS or D-HH:MM:SS."""
    if seconds >= 86400:
        return format_duration(seconds)
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def parse_array(text: str) -> tuple[list[int], int]:
    """Parse an array expression such as `0-9:3,12%2`. Returns the sorted task ids and the task limit (0: none).

    Raises ValueError.
    """
    text, _, limit = text.partition("%")
    found: set[int] = set()
    for part in text.strip("[]").split(","):
        span, _, step = part.partition(":")
        first, dash, last = span.partition("-")
        begin, end, stride = int(first), int(last if dash else first), int(step or 1)
        if not 0 <= begin <= end < MAX_ARRAY_SIZE or stride < 1:
            raise ValueError(text)
        found.update(range(begin, end + 1, stride))
    return sorted(found), int(limit or 0)


def format_array(numbers: Sequence[int], limit: int) -> str:
    """Format task ids as an array expression: `2-4,7%2`."""
    return ",".join(_spans(numbers)) + (f"%{limit}" if limit else "")


def _spans(numbers: Iterable[int]) -> list[str]:
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return [str(first) if first == last else f"{first}-{last}" for first, last in spans]


def format_node_list(names: Sequence[str]) -> str:
    """Format node names as a node expression: nid[001-003]."""
    if len(names) < 2:
        return "".join(names)
    spans = (span.split("-") for span in _spans(int(name[-3:]) for name in names))
    return f"{names[0][:-3]}[{','.join('-'.join(f'{int(end):03}' for end in span) for span in spans)}]"


def parse_node_list(text: str) -> list[str]:
    """The node names in a node expression."""
    names, prefix = [], ""
    for part in text.replace("]", "").replace("[", "\0[").split(","):
        if "\0[" in part:
            prefix, part = part.split("\0[")  # noqa: PLW2901
        elif not part.isdecimal() and "-" not in part:
            names.append(part)
            continue
        first, _, last = part.partition("-")
        names += [f"{prefix}{number:03}" for number in range(int(first), int(last or first) + 1)]
    return [name for name in names if name]


def format_exit_code(status: int) -> str:
    """Format a wait(2) status as `code:signal`."""
    return f"{status >> 8 & 0xFF}:{status & 0x7F}"


def job_id(job: StoredJob) -> str:
    """The id as users see it: 14, 14_3, 14_[2-4%2]."""
    if job.array_job is None:
        return str(job.id)
    if job.array_task is not None:
        return f"{job.array_job}_{job.array_task}"
    return f"{job.array_job}_[{format_array(job.pending_tasks, job.array_limit)}]"


def elapsed(job: StoredJob, now: int) -> int:
    """The seconds that the job has run."""
    return max(0, (job.end if job.finished else now) - job.start) if job.start else 0


def fail(program: str, line: str, status: int = 1) -> NoReturn:
    """End the program with `program: error: line`."""
    raise CommandFailedError(f"{program}: error: {line}", status=status)
