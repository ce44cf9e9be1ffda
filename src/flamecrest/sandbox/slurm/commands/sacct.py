"""Toy sacct: prints accounting records (sacct_fields.py)."""

from __future__ import annotations

import time

from flamecrest.sandbox.slurm import cluster, ids
from flamecrest.sandbox.slurm.formats import SHORT_STATES, CommandFailedError, fail, parse_time, write_output
from flamecrest.sandbox.slurm.options import MAYBE, NO, YES, Options

from .program import Caller, chosen_cluster, require_accounting
from .sacct_fields import FIELDS, AccountingRecord, FieldValues, accounting_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.sandbox.slurm.store import Store, StoredJob

_FLAGS = (
    "allclusters allocations allusers array batch-script brief completion deduplicate duplicates env-vars federation "
    "help helpformat json local long noconvert noheader parsable parsable2 truncate usage version whole-hetjob yaml"
)
_VALUES = (
    "accounts associations cluster clusters constraints delimiter endtime file flags format gid group jobs jobname "
    "name ncpus nnodes nodelist partition qos reason starttime state timelimit-max timelimit-min uid units user wckeys"
)
OPTIONS = Options(
    "sacct",
    {**dict.fromkeys(_FLAGS.split(), NO), **dict.fromkeys(_VALUES.split(), YES), "verbose": MAYBE},
    {
        "a": "allusers", "A": "accounts", "b": "brief", "B": "batch-script", "D": "duplicates", "E": "endtime",
        "g": "gid", "i": "nnodes", "I": "ncpus", "j": "jobs", "l": "long", "L": "allclusters", "M": "clusters",
        "n": "noheader", "N": "nodelist", "o": "format", "p": "parsable", "P": "parsable2", "q": "qos",
        "r": "partition", "s": "state", "S": "starttime", "T": "truncate", "u": "user", "V": "version",
        "W": "wckeys", "X": "allocations",
    },
    hint=False,
)  # fmt: skip
_STANDARD = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"
_BRIEF = "JobID,State,ExitCode"
_WIDTHS = {
    "JobID": -12, "JobIDRaw": -12, "ExitCode": 8, "DerivedExitCode": 15, "Submit": 19, "Start": 19, "End": 19,
    "Eligible": 19, "User": 9, "Group": 9, "UID": 6, "GID": 6, "NodeList": 15, "Reason": 22, "WorkDir": 20,
    "NNodes": 8, "NTasks": 8, "SubmitLine": 20, "ReqNodes": 8, "ReqCPUS": 8, "Comment": 14, "Reservation": 20,
}  # fmt: skip
_RULE = "-" * 80


def main(store: Store, words: Sequence[str]) -> int:
    options, _ = OPTIONS.read(words, mixed=True)
    if "version" in options:
        write_output(f"slurm-wlm {cluster.VERSION}\n")
        return 0
    if "helpformat" in options:
        _list_fields()
        return 0
    if "json" in options or "yaml" in options:
        raise CommandFailedError("sacct: error: the toy Slurm has no serializer plugins")
    brief = "brief" in options
    columns = [] if "batch-script" in options else _columns(options.get("format") or (_BRIEF if brief else _STANDARD))
    start, end = _window(options)
    if options.get("clusters", cluster.CLUSTER) != cluster.CLUSTER:
        try:
            store = chosen_cluster(store, "sacct", options)
        except CommandFailedError:
            return 0  # sacct shows nothing of an unknown cluster
    named = ids.parse_sacct_ids(options.get("jobs", ""))
    require_accounting(store, "sacct", "sacct: error: Problem talking to the database: Connection refused")
    lag, now = store.setting("history_lag"), time.time()
    caller = Caller(store)
    jobs = [job for job in store.jobs() if _meant(job, named) and _wanted(job, options, caller)]
    jobs.sort(key=lambda job: (job.array_job or job.id, job.array_task if job.array_task is not None else 10**6))
    records = [one for job in jobs if (one := accounting_record(store, job, now, lag)) is not None]
    records = [one for one in records if _in_time(one, start, end) and _in_state(one, options)]
    if "batch-script" in options:
        _scripts(records, caller)
    else:
        _print(_rows(records, named, only_jobs="allocations" in options), columns, options)
    return 0


def _columns(text: str) -> list[tuple[str, int]]:
    """The columns by name in any case, with their widths (negative: left-aligned)."""
    names = {name.lower(): name for name in FIELDS}
    if text.lower() == "all":
        text = ",".join(FIELDS)
    columns = []
    for word in text.split(","):
        given, _, width = word.partition("%")
        if not given:
            continue
        if given.lower() not in names:
            fail("sacct", f'Invalid field requested: "{given}"')
        name = names[given.lower()]
        columns.append((name, int(width) if width.lstrip("-").isdecimal() else _WIDTHS.get(name, 10)))
    return columns


def _window(options: dict[str, str]) -> tuple[int, int]:
    """The start and the end of the interval; without limit for jobs given by their ids."""
    given = "starttime"
    try:
        default = "1970-01-02" if "jobs" in options else "today"
        start = parse_time(options.get(given, default))
        given = "endtime"
        return start, parse_time(options.get(given, "now"))
    except ValueError:
        raise CommandFailedError(f"Invalid time specification (pos=0): {options[given]}") from None


def _wanted(job: StoredJob, options: dict[str, str], caller: Caller) -> bool:
    users = options.get("user")
    if users is None and not options.keys() & {"jobs", "allusers", "uid"} and caller.name != "root":
        users = caller.name
    name = options.get("name") or options.get("jobname")
    filters = (
        (users, {job.user, str(job.uid)}),
        (options.get("uid"), {job.user, str(job.uid)}),
        (options.get("accounts"), {job.account}),
        (name, {job.name}),
        (options.get("partition"), {job.partition}),
        (options.get("qos"), {job.qos}),
        (options.get("cluster") or options.get("clusters"), {cluster.CLUSTER}),
    )
    return all(given is None or bool(values & set(given.split(","))) for given, values in filters)


def _meant(job: StoredJob, named: list[ids.JobReference]) -> list[ids.JobReference] | bool:
    """The ids that refer to the job; True if all jobs are meant.

    The records contain no single array tasks that have not started, and no job is heterogeneous.
    """
    if not named or any(not one.number for one in named):
        return True
    return [
        one
        for one in named
        if one.component is None and one.means(job) and not (one.task is not None and job.pending_tasks)
    ]


def _in_time(one: AccountingRecord, start: int, end: int) -> bool:
    """Whether the job existed at some time between start and end."""
    return one.job.submit <= end and (not one.job.finished or one.job.end >= start)


def _in_state(one: AccountingRecord, options: dict[str, str]) -> bool:
    state = one.line["State"].partition(" ")[0]
    wanted = options.get("state", "").upper().split(",")
    return wanted == [""] or state in wanted or SHORT_STATES.get(state) in wanted


def _scripts(records: list[AccountingRecord], caller: Caller) -> None:
    for one in records:
        if caller.owns(one.job.user):
            script = "NONE\n" if one.fresh else one.job.script.decode("utf-8", "surrogateescape")
            write_output(f"Batch Script for {one.line['JobIDRaw']}\n{_RULE}\n{script}\n")


def _rows(records: list[AccountingRecord], named: list[ids.JobReference], *, only_jobs: bool) -> list[FieldValues]:
    """The rows of a job and its steps; only the named steps if ids name steps."""
    rows: list[FieldValues] = []
    for one in records:
        meant = _meant(one.job, named)
        steps = set() if meant is True or not meant else {name.step for name in meant}
        if only_jobs or not steps or None in steps:
            rows += [one.line, *(() if only_jobs else one.steps)]
        else:
            rows += [row for row in one.steps if row["JobID"].rpartition(".")[2] in steps]
    return rows


def _print(rows: list[FieldValues], columns: list[tuple[str, int]], options: dict[str, str]) -> None:
    header: FieldValues = {name: name for name, _ in columns}
    delimiter = options.get("delimiter", "|")
    lines = []
    if "parsable" in options or "parsable2" in options:
        end = delimiter if "parsable" in options and _later(options) == "parsable" else ""
        shown = rows if "noheader" in options else [header, *rows]
        lines = [delimiter.join(row.get(name, "") for name, _ in columns) + end + "\n" for row in shown]
    else:
        if "noheader" not in options:
            rule = {name: "-" * abs(width) for name, width in columns}
            lines += [_padded(header, columns), _padded(rule, columns)]
        lines += [_padded(row, columns) for row in rows]
    write_output("".join(lines))


def _later(options: dict[str, str]) -> str:
    return [name for name in options if name in {"parsable", "parsable2"}][-1]


def _padded(row: FieldValues, columns: list[tuple[str, int]]) -> str:
    cells = []
    for name, width in columns:
        text, room = row.get(name, ""), abs(width)
        text = text if len(text) <= room else text[: room - 1] + "+"
        cells.append(text.ljust(room) if width < 0 else text.rjust(room))
    return " ".join(cells) + " \n"


def _list_fields() -> None:
    for at in range(0, len(FIELDS), 4):
        write_output(" ".join(name.ljust(19) for name in FIELDS[at : at + 4]) + "\n")
