"""Parsers of what squeue, sacct and scontrol print about jobs, and the columns that are requested."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.once.marked_paths import marker_in, tag_in, without_marker
from flamecrest.server.schedulers.once.submissions import MARKER, is_marker
from flamecrest.server.schedulers.values import Job, JobMetadata, JobStep, JobTimes, JobUsage, Stage

from .fields import Rows, count, cpu_seconds, epoch, exit_status, mebibytes, minutes, seconds, shared, text
from .file_patterns import NO_ELEMENT, JobFiles, ListedJob
from .states import JobState, parse_job_state
from .tres import parse_tres

# Free text (folder, name) comes last, to keep the output readable.
SQUEUE_COLUMNS = (
    "JobArrayID", "JobID", "State", "Reason", "exit_code", "RestartCnt", "UserName", "GroupName", "Account",
    "Partition", "Cluster", "NumNodes", "NodeList", "PriorityLong", "SubmitTime", "StartTime", "EndTime",
    "TimeUsed", "TimeLimit", "WorkDir", "Name",
)  # fmt: skip
SACCT_COLUMNS = (
    "JobID", "JobIDRaw", "State", "Reason", "ExitCode", "User", "UID", "Group", "Account", "Partition", "Cluster",
    "NNodes", "NodeList", "Priority", "Submit", "Start", "End", "ElapsedRaw", "Suspended", "TimelimitRaw",
    "WorkDir", "JobName",
)  # fmt: skip
# Further columns; those that a version does not know are left out.
SQUEUE_DETAILS = ("NumCPUs", "tres-alloc", "QOS", "Dependency", "Comment", "STDOUT", "STDERR")
SACCT_DETAILS = ("AllocTRES", "ReqTRES", "QOS", "Comment", "TotalCPU", "MaxRSS", "StdOut", "StdErr")
# The columns in which the marker of a job is; SubmitLine, the arguments of sbatch, exists from Slurm 21.08 on.
MARKED_SQUEUE_COLUMNS = ("JobArrayID", "UserName", "STDIN", "WorkDir", "Comment")
MARKED_SACCT_COLUMNS = ("JobID", "User", "Partition", "WorkDir", "Comment", "SubmitLine")
EVERY_STATE = "BF,CA,CD,DL,F,NF,OOM,PD,PR,R,RQ,RS,RV,S,TO"  # of sacct; all that Slurm 20.11 has
MARKED_WINDOW = 2 * 86400  # seconds; jobs that ended before are not found by their marker

_MARKED = re.compile(f"=/?({MARKER.pattern})", re.ASCII)
_ID = re.compile(r"([0-9]+)(?:_([0-9]+)|_\[([^\]]*)\]|\+([0-9]+))?")
_STEP = re.compile(r"([0-9]+(?:_[0-9]+|_\[[^\]]*\]|\+[0-9]+)?)(?:\.([A-Za-z0-9_+]+))?")
_SCRIPT = re.compile(r"Batch Script for \S+\n-{20,}\n")
_SCONTROL_JOB = re.compile(r"^(?=JobId=[0-9]+ )", re.MULTILINE)
_START = re.compile(r"JobId=(?P<number>[0-9]+) (?P<array>ArrayJobId=[0-9]+ )?")
_NAME_AND_USER = re.compile(r"[^\n]*? JobName=(?P<name>.*?)\n   UserId=(?P<user>[^(\n]*)\(", re.DOTALL)
_PATH_END = re.compile(r"\n   (?=[A-Z]\w*=)|\n\n|\s*\Z")  # a job ends with an empty line, lines of plug-ins may follow
_NODE = re.compile(r"^   BatchHost=(\S+)$", re.MULTILINE)

_Row = Mapping[str, str]


def parse_squeue(
    output: str, separator: str, details: Sequence[str] = (), known: dict[str, JobRecord] | None = None
) -> Snapshot:
    """Parse the output of squeue; `details` are the columns behind SQUEUE_COLUMNS.

    `known` has the records of an earlier output by the texts of their rows, and then has those of this one: what a row
    says that has not changed is taken from there.
    """
    rows = Rows(output, separator, (*SQUEUE_COLUMNS, *details), _ID)
    unknown: list[str] = []
    records: list[JobRecord] = []
    earlier, known = known or {}, {} if known is None else known
    now: dict[str, JobRecord] = {}
    unreadable = 0
    for cells in rows.cells():
        row, states = "\0".join(cells), len(unknown)  # no text of Slurm's contains a zero byte
        record = earlier.get(row) or _of_squeue(dict(zip(rows.columns, cells, strict=True)), unknown)
        if record is None:
            unreadable += 1
            continue
        records.append(record)
        if len(unknown) == states:
            now[row] = record
    known.clear()
    known.update(now)
    return Snapshot(records, rows.unreadable_rows + unreadable, tuple(unknown))


def parse_sacct(output: str, separator: str, details: Sequence[str] = ()) -> Snapshot:
    """Parse the output of sacct: the row of each job, followed by the rows of its steps.

    `details` are the columns behind SACCT_COLUMNS.
    """
    rows = Rows(output, separator, (*SACCT_COLUMNS, *details), _STEP)
    unknown: list[str] = []
    jobs: list[_Row] = []
    steps: dict[str, list[JobStep]] = {}
    memory: dict[str, int] = {}  # the most that one task of a job has used
    for row in rows:
        job_id, dot, _ = row["JobID"].partition(".")
        if dot:
            steps.setdefault(job_id, []).append(_step(row, unknown))
            if (size := mebibytes(row.get("MaxRSS", ""))) is not None:
                memory[job_id] = max(size, memory.get(job_id, 0))
        else:
            jobs.append(row)
    found = [_of_sacct(row, unknown, steps.get(row["JobID"], []), memory.get(row["JobID"])) for row in jobs]
    records = [record for record in found if record is not None]
    return Snapshot(records, rows.unreadable_rows + len(found) - len(records), tuple(unknown))


def marked_jobs(printed: str, separator: str, columns: Sequence[str], user: str) -> Iterator[tuple[str, str]]:
    """Marker and id of each of the user's jobs that has one in its comment, a path or the arguments of sbatch."""
    for row in Rows(printed, separator, columns, _ID):
        if row.get("User", row.get("UserName")) == user:
            in_paths = (marker_in(row.get("STDIN", "")), marker_in(row["WorkDir"]))
            for marker in (row["Comment"], *in_paths, *_MARKED.findall(row.get("SubmitLine", ""))):
                if marker is not None and is_marker(marker):
                    yield marker, _base_id(row[columns[0]])


def hidden_markers(printed: str, separator: str) -> dict[str, str]:
    """The jobs in the queue whose markers only the accounting shows: the beginnings of these by the ids.

    Jobs that were not submitted by the gateway are none of them.
    """
    tags = {row["JobArrayID"]: tag_in(row["WorkDir"]) for row in Rows(printed, separator, MARKED_SQUEUE_COLUMNS, _ID)}
    return {_base_id(job_id): tag for job_id, tag in tags.items() if tag is not None}


def recorded_ids(printed: str, separator: str) -> set[str]:
    """The ids of the jobs whose arguments of sbatch the accounting has, or that have none.

    It gets them together with the partition; a job of which it has heard by a step only has neither.
    """
    rows = Rows(printed, separator, MARKED_SACCT_COLUMNS, _ID)
    return {_base_id(row["JobID"]) for row in rows if row["SubmitLine"] or row["Partition"]}


def _base_id(job_id: str) -> str:
    return job_id.partition("_")[0].partition("+")[0]


def parse_job_paths(output: str, job_id: str, element: str) -> JobMetadata:
    """Parse the paths of the first job in the output of `scontrol show job`.

    Job names, comments and folders are printed above the paths and may contain anything, line ends included. So
    the last matching lines are taken. A misleading name can only falsify the paths of its own job.
    """
    name = f"{job_id}_{element}" if element else job_id
    block = next((part for part in _SCONTROL_JOB.split(output) if "\n   StdOut=" in part), None)
    if block is None:
        return JobMetadata(name)
    start, names = _START.match(block), _NAME_AND_USER.match(block)
    rest, _, tail = block.rpartition("\n   StdOut=")
    nodes = _NODE.findall(rest)  # none before the job starts
    rest, _, standard_input = rest.rpartition("\n   StdIn=")
    _, _, standard_error = rest.rpartition("\n   StdErr=")
    standard_output = _PATH_END.split(tail, maxsplit=1)[0]
    is_whole_array = not element and start is not None and start["array"] is not None
    values = {"A": job_id, "n": "0", "s": "batch", "t": "0"}
    if names is not None:
        values |= {"u": names["user"], "x": names["name"]}
    if start is not None and not is_whole_array:  # the elements of an array have different numbers
        values |= {"a": element or NO_ELEMENT, "j": start["number"], "J": start["number"]}
    # scontrol of 24.11 and later prints ReqTRES
    files = JobFiles(values, names["name"] if names is not None else "", expanded="\n   ReqTRES=" in block)

    def path(value: str) -> str | None:
        return without_marker(files.path(value.replace(NO_ELEMENT, "%a") if is_whole_array else value)) or None

    return JobMetadata(
        id=name,
        standard_input=path(standard_input),
        standard_output=path(standard_output),
        standard_error=path(standard_error or standard_output),  # from 26.05 on empty if it is the same file
        node=nodes[-1] if nodes and not is_whole_array else None,
    )


def parse_stored_script(output: str) -> str | None:
    """The first script in the output of `sacct --batch-script`, behind its title; NONE stands for no script.

    Slurm 22.05 prints one more line end behind the script, 24.11 and later do not.
    """
    scripts = _SCRIPT.split(output)
    script = scripts[1] if len(scripts) > 1 else ""
    script = script.removesuffix("\n") if script.endswith("\n\n") else script
    return script if script.startswith("#!") else None


def _of_squeue(row: _Row, unknown: list[str]) -> JobRecord | None:
    start, end, elapsed = epoch(row["StartTime"]), epoch(row["EndTime"]), seconds(row["TimeUsed"])
    # EndTime of a running job is that of its time limit: it does not say that an unknown state is final
    state = _state(row["State"], unknown, started=bool(elapsed), ended=False)
    waiting, nodes = state.stage is Stage.WAITING, text(row["NodeList"])
    code, signal = (None, None) if waiting else exit_status(row["exit_code"])
    has = parse_tres(row.get("tres-alloc", ""))
    folder = without_marker(row["WorkDir"])
    listed = ListedJob(row["JobArrayID"], row["JobID"], row["UserName"], row["Name"], folder)
    stdout, stderr = listed.files(text(row.get("STDOUT", "")), text(row.get("STDERR", "")))
    job = Job(
        id=row["JobArrayID"],
        name=shared(row["Name"]),
        state=state.state,
        stage=state.stage,
        user=text(row["UserName"]) or None,
        reason=shared(row["Reason"]) or None,
        exit_code=code,
        signal=signal,
        times=JobTimes(
            submit=epoch(row["SubmitTime"]),
            start=None
            if waiting or not nodes
            else start,  # without nodes it is an estimate, or the time of the cancellation
            end=end if state.stage is Stage.ENDED else None,
            elapsed=elapsed,
            limit=seconds(row["TimeLimit"]),
        ),
        account=text(row["Account"]) or None,
        group=text(row["GroupName"]) or None,
        partition=text(row["Partition"]),
        cluster=text(row["Cluster"]),
        nodes=nodes,
        node_count=count(row["NumNodes"]) or 0,
        priority=count(row["PriorityLong"]),
        working_directory=text(folder),
        cpus=has.cpus if has.cpus is not None else count(row.get("NumCPUs", "")),
        memory=has.memory,
        gpus=has.gpus,
        qos=text(row.get("QOS", "")) or None,
        dependency=text(row.get("Dependency", "")) or None,
        comment=own_comment(text(row.get("Comment", ""))),
        standard_output=stdout,
        standard_error=stderr,
    )
    return _record(job, raw_id=row["JobID"], restarts=count(row["RestartCnt"]) or 0)


def _of_sacct(row: _Row, unknown: list[str], steps: Sequence[JobStep], max_memory: int | None) -> JobRecord | None:
    start, end = epoch(row["Start"]), epoch(row["End"])
    state = _state(row["State"], unknown, started=start is not None, ended=end is not None)
    waiting, nodes = state.stage is Stage.WAITING, text(row["NodeList"])
    code, signal = (None, None) if waiting else exit_status(row["ExitCode"])
    placeholder = row["JobName"] == "allocation" and not row["Partition"]
    has = parse_tres(row.get("AllocTRES") or row.get("ReqTRES", ""))
    folder = without_marker(row["WorkDir"])
    listed = ListedJob(row["JobID"], row["JobIDRaw"], row["User"], row["JobName"], folder)
    stdout, stderr = listed.files(row.get("StdOut", ""), row.get("StdErr", ""))
    job = Job(
        id=row["JobID"],
        name="" if placeholder else shared(row["JobName"]),
        state=state.state,
        stage=state.stage,
        user=text(row["User"]) or None,
        reason=shared(row["Reason"]) or None,
        exit_code=code,
        signal=signal,
        times=JobTimes(
            submit=epoch(row["Submit"]),
            start=None if waiting or not nodes else start,
            end=None if waiting else end,
            elapsed=0 if waiting else count(row["ElapsedRaw"]),
            suspended=None if waiting else seconds(row["Suspended"]),
            limit=minutes(row["TimelimitRaw"]),
        ),
        account=text(row["Account"]) or None,
        group=None if placeholder else text(row["Group"]) or None,
        partition=text(row["Partition"]),
        cluster=text(row["Cluster"]),
        nodes=nodes,
        node_count=count(row["NNodes"]) or 0,
        priority=count(row["Priority"]),
        working_directory=text(folder),
        kill_request_user=_cancelled_by(state.cancelled_by, row),
        cpus=has.cpus,
        memory=has.memory,
        gpus=has.gpus,
        qos=shared(row.get("QOS", "")) or None,
        comment=own_comment(text(row.get("Comment", ""))),
        usage=_usage(row, max_memory) if state.stage is Stage.ENDED else None,
        standard_output=stdout,
        standard_error=stderr,
        source="history",
        steps=tuple(steps),
    )
    return _record(job, raw_id=row["JobIDRaw"], placeholder=placeholder)


def own_comment(comment: str) -> str | None:
    """The user's comment; a marker of the gateway's is none."""
    return None if not comment or is_marker(comment) else comment


def _usage(row: _Row, max_memory: int | None) -> JobUsage | None:
    """What an ended job has used; None if nothing was measured."""
    used = cpu_seconds(row.get("TotalCPU", ""))
    return None if max_memory is None and not used else JobUsage(used, max_memory)


def _record(job: Job, *, raw_id: str, restarts: int = 0, placeholder: bool = False) -> JobRecord | None:
    """The record of the job; None if its id cannot be parsed (an array expression that was cut)."""
    found = _ID.fullmatch(job.id)
    if found is None:
        return None
    base, element, elements_text, component = found.groups()
    try:
        elements = ArrayElements.parse(element or elements_text) if element or elements_text is not None else None
    except ValueError:
        return None
    return JobRecord(
        job,
        base,
        raw_id=job.id if raw_id == job.id else raw_id,  # one text instead of two
        elements=elements,
        component=None if component is None else int(component),
        restarts=restarts,
        placeholder=placeholder,
    )


def _step(row: _Row, unknown: list[str]) -> JobStep:
    start, end = epoch(row["Start"]), epoch(row["End"])
    state = _state(row["State"], unknown, started=True, ended=end is not None)
    code, signal = exit_status(row["ExitCode"])
    times = JobTimes(start=start, end=end, elapsed=count(row["ElapsedRaw"]), suspended=seconds(row["Suspended"]))
    return JobStep(row["JobID"], shared(row["JobName"]), state.state, code, signal, times)


def _state(cell: str, unknown: list[str], *, started: bool, ended: bool) -> JobState:
    state = parse_job_state(cell, started=started, ended=ended)
    if not state.known:
        unknown.append(cell[:80])
    return state


def _cancelled_by(uid: str | None, row: _Row) -> str | None:
    """The name of the user who cancelled the job if the row contains it, else the uid."""
    return {row["UID"]: row["User"], "0": "root"}.get(uid, uid) if uid else None


def matches(query: JobQuery, job: Job) -> bool:
    """Whether account and name of the job are those of the query.

    Slurm stores account names in lower case and accepts any case. Its database replaces each " in a job name by `.
    """
    account = query.account is None or query.account.lower() == (job.account or "").lower()
    return account and (query.name is None or job.name in (query.name, query.name.replace('"', "`")))
