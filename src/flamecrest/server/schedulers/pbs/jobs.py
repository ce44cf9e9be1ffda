"""Parsers of `qstat -f -F json` about jobs. No I/O."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from flamecrest.server.schedulers.array_elements import MAX_ARRAY_ELEMENTS, ArrayElements
from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.once.marked_jobs import MarkedJobs
from flamecrest.server.schedulers.values import Job, JobMetadata, JobTimes, JobUsage, Stage

from .document import Entry, number_of, parse_section, part_of, text_of
from .ids import PbsJobId
from .states import PbsState, parse_job_state

MARKER: Final = "FLAMECREST_MARKER"  # the variable of a job that carries JobSpec.marker

_MARKED: Final = re.compile(MARKER + r"=([A-Za-z0-9_-]+)", re.ASCII)
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"
_TIME: Final = re.compile(
    r"\w{3} (?P<month>\w{3}) +(?P<day>[0-9]{1,2}) (?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2}) (?P<year>[0-9]{4})", re.ASCII
)
_SIZE: Final = re.compile(r"([0-9]{1,18})([kmgtp]?)([bw]?)", re.ASCII | re.IGNORECASE)
_UNITS: Final[Mapping[str, int]] = MappingProxyType({"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50})
_WORD_SIZE: Final = 8  # bytes of a `w`
_HOST: Final = re.compile(r"([^/+()\s]+)/[0-9]+(?:\*[0-9]+)?")


def parse_jobs(printed: bytes) -> Snapshot:
    """The jobs, arrays and elements of arrays in a listing."""
    records: list[JobRecord] = []
    unreadable = 0
    unknown: list[str] = []
    for job_id, entry in parse_section(printed, "Jobs").items():
        found = PbsJobId.printed(job_id)
        if found is None:
            unreadable += 1
            continue
        state = _state(entry)
        if not state.known:
            unknown.append((text_of(entry, "job_state") or "")[:40])
        records.append(_record(found, job_id, entry, state))
    return Snapshot(tuple(records), unreadable, tuple(unknown))


def parse_metadata(printed: bytes, job_id: PbsJobId) -> JobMetadata | None:
    """The paths of one job; None if it is not in the listing. PBS shows no scripts."""
    for shown, entry in parse_section(printed, "Jobs").items():
        other = PbsJobId.printed(shown)
        if other is not None and job_id.means(other):
            output, error = (_path(entry, key) for key in ("Output_Path", "Error_Path"))
            return JobMetadata(shown, standard_output=output, standard_error=_joined(entry, output, error))
    return None


def marked_jobs(printed: bytes) -> MarkedJobs:
    """The jobs with markers."""
    records = parse_jobs(printed).records
    return MarkedJobs.of((one.job.marker, one.job.id) for one in records if one.job.marker is not None)


def parse_time(text: str | None) -> int | None:
    """`Sat Nov 21 20:59:02 2026` in UTC as seconds since the epoch."""
    found = _TIME.fullmatch(text or "")
    if found is None or found["month"] not in _MONTHS:
        return None
    month = _MONTHS.index(found["month"]) // 3 + 1
    hour, minute, second = (int(part) for part in found["clock"].split(":"))
    return calendar.timegm((int(found["year"]), month, int(found["day"]), hour, minute, second))


def parse_duration(text: str | None) -> int | None:
    """`168:00:00` or seconds, as seconds."""
    if text is None or not re.fullmatch(r"[0-9]{1,12}(?::[0-9]{1,12}){0,2}", text, re.ASCII):
        return None
    seconds = 0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part)
    return seconds


def parse_size(text: str | None) -> int | None:
    """`100mb`, `102400kb`, `8gw` as MiB, rounded up."""
    found = _SIZE.fullmatch(text or "")
    if found is None:
        return None
    size = int(found[1]) << _UNITS[found[2].lower()]
    size *= _WORD_SIZE if found[3].lower() == "w" else 1
    return -(-size >> 20)


def _state(entry: Entry) -> PbsState:
    return parse_job_state(
        text_of(entry, "job_state") or "",
        substate=number_of(entry, "substate"),
        status=number_of(entry, "Exit_status"),
        started=text_of(entry, "stime") is not None,
    )


def _record(found: PbsJobId, job_id: str, entry: Entry, state: PbsState) -> JobRecord:
    wanted, used = part_of(entry, "Resource_List"), part_of(entry, "resources_used")
    hosts = tuple(dict.fromkeys(_HOST.findall(text_of(entry, "exec_host") or "")))
    output, error = (_path(entry, key) for key in ("Output_Path", "Error_Path"))
    job = Job(
        id=job_id,
        name=text_of(entry, "Job_Name") or "",
        state=state.state,
        stage=state.stage,
        user=(text_of(entry, "Job_Owner") or "").partition("@")[0] or None,
        reason=_reason(entry, state),
        exit_code=state.exit_code,
        signal=state.signal,
        times=_times(entry, state),
        account=text_of(entry, "Account_Name"),
        group=text_of(entry, "egroup") or text_of(entry, "group_list"),
        partition=text_of(entry, "queue") or "",
        cluster=text_of(entry, "server") or "",
        nodes=",".join(hosts),
        node_count=len(hosts) or number_of(wanted, "nodect") or 0,
        priority=number_of(entry, "Priority"),
        working_directory=text_of(part_of(entry, "Variable_List"), "PBS_O_WORKDIR") or "",
        cpus=number_of(wanted, "ncpus"),
        memory=parse_size(text_of(wanted, "mem")),
        gpus=number_of(wanted, "ngpus"),
        dependency=text_of(entry, "depend"),
        standard_output=output,
        standard_error=_joined(entry, output, error),
        usage=_usage(used),
        marker=_marker(entry),
    )
    index = found.index if found.index and int(found.index) < MAX_ARRAY_ELEMENTS else None
    elements = None if index is None else ArrayElements.of(int(index))
    restarts = max(0, (number_of(entry, "run_count") or 1) - 1)
    return JobRecord(job, found.number, elements=elements, restarts=restarts)


def _reason(entry: Entry, state: PbsState) -> str | None:
    """The scheduler's comment. That of a running job only tells when and where it has started."""
    return text_of(entry, "comment") if state.stage is not Stage.RUNNING else None


def _times(entry: Entry, state: PbsState) -> JobTimes:
    start = parse_time(text_of(entry, "stime"))
    used = parse_duration(text_of(part_of(entry, "resources_used"), "walltime"))
    end = None
    if state.stage is Stage.ENDED:
        late = parse_time(text_of(entry, "obittime")) or number_of(entry, "history_timestamp")
        end = start + used if start is not None and used is not None else late or parse_time(text_of(entry, "mtime"))
    ran = end - start if start is not None and end is not None else None
    return JobTimes(
        submit=parse_time(text_of(entry, "ctime")),
        start=start if state.stage is not Stage.WAITING else None,
        end=end,
        elapsed=used if used is not None else ran,
        limit=parse_duration(text_of(part_of(entry, "Resource_List"), "walltime")),
    )


def _usage(used: Entry) -> JobUsage | None:
    seconds, memory = parse_duration(text_of(used, "cput")), parse_size(text_of(used, "mem"))
    return None if seconds is None and memory is None else JobUsage(seconds, memory)


def _path(entry: Entry, key: str) -> str | None:
    """`host:/path` without the host."""
    value = text_of(entry, key)
    return None if value is None else value.partition(":")[2] or value


def _joined(entry: Entry, output: str | None, error: str | None) -> str | None:
    """The path of standard error, which may go to that of standard output."""
    return output if text_of(entry, "Join_Path") == "oe" else error


def _marker(entry: Entry) -> str | None:
    """The marker among variables and arguments.

    A fault of PBS makes a variable part of the value before it, so all values are searched.
    """
    variables = part_of(entry, "Variable_List")
    marker = text_of(variables, MARKER)
    return marker if marker is not None else next(_markers(entry, variables), None)


def _markers(entry: Entry, variables: Entry) -> Iterator[str]:
    for text in (text_of(entry, "Submit_arguments"), *variables.values()):
        if isinstance(text, str) and (found := _MARKED.search(text)) is not None:
            yield found[1]
