"""Lists of jobs by squeue and sacct: columns and filters, and what is done about text that is no list. No I/O."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Upstream
from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.job_errors import AskAgain, WindowTooWide
from flamecrest.server.schedulers.merging import Snapshot
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.login_memory import Expiring

from . import errors
from .fields import below_header, display
from .ids import SlurmJobId
from .jobs import SACCT_COLUMNS, SACCT_DETAILS, SQUEUE_COLUMNS, SQUEUE_DETAILS, parse_sacct, parse_squeue

if TYPE_CHECKING:
    from flamecrest.server.schedulers.merging import JobRecord

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.+=@:/][A-Za-z0-9_.+=@:/-]*")  # filters that squeue and sacct compare literally
_UNKNOWN_SQUEUE_COLUMN: Final = "Invalid job format specification"
_UNKNOWN_SACCT_COLUMN: Final = "Invalid field requested"
_PATHS: Final = frozenset({"StdOut", "StdErr"})  # of sacct; both came with 24.05, and it names only the first
_UNKNOWN_COLUMN: Final = re.compile(r'(?:Invalid job format specification:|Invalid field requested:) "?([\w-]+)')
_ACCOUNT: Final = ","  # stands for the account that asks about several users; no user has that name
LEARNT_FOR: Final = 86400.0  # seconds; Slurm may be upgraded
REMEMBERED_ROWS: Final = 20_000  # of squeue, of all users; each takes half a KB
UNCUT: Final = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}  # array expressions in full


@dataclass(slots=True)
class _Learnt:
    """What the output of one of the programs has shown over one login."""

    unknown: frozenset[str] = frozenset()  # the further columns that it does not know
    needs_titles: bool = False
    plain_next: bool = False  # the next command asks for no further columns


class _Program:
    """The further columns that one of the programs knows, and whether its output needs titles.

    Users may change what the programs print for them: what the output over a user's login shows holds for that user.
    Only what the cluster's account is shown holds for all. `clock` is monotonic, in seconds.
    """

    def __init__(self, name: str, details: tuple[str, ...], clock: Callable[[], float]) -> None:
        self.name = name
        self._details = details
        self._learnt: Expiring[_Learnt] = Expiring(clock)  # by who asks

    def asks(self, asker: str) -> tuple[tuple[str, ...], bool]:
        """The further columns of the asker's next command, and whether it asks for titles."""
        own, general = self._learnt.get(asker), self._learnt.get(_ACCOUNT)
        if own is None and general is None:
            return self._details, False
        own, general = own or _Learnt(), general or _Learnt()
        plain, own.plain_next = own.plain_next, False
        known = (one for one in self._details if one not in own.unknown and one not in general.unknown)
        return () if plain else tuple(known), own.needs_titles or general.needs_titles

    def without_once(self, asker: str) -> AskAgain:
        """The error for a failure without a message: a login that closes standard error hides what is not known."""
        self._learns(asker).plain_next = True
        return AskAgain(f"{self.name} failed without a message")

    def without(self, asker: str, asked: tuple[str, ...], output: Output) -> AskAgain:
        """The error for columns that this version of the program does not know; they are not asked for again.

        `asked`: the further columns of the command. A message that names none of them is about all.
        """
        unknown = set(_UNKNOWN_COLUMN.findall(output.errors())) & set(asked) or set(asked)
        if unknown & _PATHS:
            unknown |= _PATHS
        self._learns(asker).unknown |= unknown
        return AskAgain(f"{self.name} does not know a column", detail=errors.error_text(output))

    def with_titles(self, asker: str) -> AskAgain:
        """The error for an output that is text without a job."""
        self._learns(asker).needs_titles = True
        return AskAgain(f"{self.name} printed text without a job")

    def _learns(self, asker: str) -> _Learnt:
        learnt = self._learnt.get(asker) or _Learnt()
        self._learnt.set(asker, learnt, LEARNT_FOR)
        return learnt


class JobLists:
    """The commands for lists of jobs. `bin_dir` is the folder of the programs with a slash, or empty.

    `separator` makes a column separator; `details`: also ask for the columns that not every version has.

    Plug-ins and wrappers of a site may print lines of their own. If there is text but no job, the next question is with
    the titles of the columns, which only the program itself prints: without them, the text is no proof of no jobs.
    `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        bin_dir: str,
        separator: Callable[[], str],
        *,
        details: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bin = bin_dir
        self._separator = separator
        self._squeue = _Program("squeue", SQUEUE_DETAILS if details else (), clock)
        self._sacct = _Program("sacct", SACCT_DETAILS if details else (), clock)
        self._rows: OrderedDict[str, dict[str, JobRecord]] = OrderedDict()  # of the last queue of each user

    def live(self, query: JobQuery) -> Command[Snapshot]:
        """Run squeue."""
        return self._live(query, self._known_rows(query))

    def live_of(self, users: Sequence[str]) -> Command[Snapshot]:
        """Run squeue for several users, whom it takes as a list; it prints the jobs of those whom it knows."""
        command = self._live(JobQuery(user=",".join(users), asker=_ACCOUNT), self._rows_of(_ACCOUNT))

        def parse(output: Output) -> Snapshot:
            snapshot, unknown = command.parse(output), errors.unknown_users(output)
            if errors.reports_error(output) and not unknown:
                raise errors.command_error("squeue", output)
            return replace(snapshot, unknown_users=unknown)

        return replace(command, parse=parse)

    def _live(self, query: JobQuery, known: dict[str, JobRecord]) -> Command[Snapshot]:
        separator, (details, titles) = self._separator(), self._squeue.asks(query.asker)
        columns = (*SQUEUE_COLUMNS, *details)
        argv = [f"{self._bin}squeue", "--all", *(() if titles else ("--noheader",)), "--states=all"]
        argv.append("--Format=" + ",".join(f"{column}:{separator}" for column in columns))
        argv += _filters(query, account="--account", jobs="--jobs")

        def parse(output: Output) -> Snapshot:
            if output.status != 0 and (query.job_id or query.job_ids) and errors.is_unknown_job(output):
                return Snapshot()
            # squeue exits with 0 although it does not know a column.
            unknown = _UNKNOWN_SQUEUE_COLUMN in output.errors()
            if unknown and details:
                raise self._squeue.without(query.asker, details, output)
            if output.status != 0 or unknown:
                raise errors.command_error("squeue", output)
            printed = _below_titles("squeue", output, separator, len(columns)) if titles else display(output)
            found = parse_squeue(printed, separator, details, known)
            return self._checked(self._squeue, query, found, output, titles=titles)

        return Command(argv, parse, env=UNCUT, repeatable=True)

    def _known_rows(self, query: JobQuery) -> dict[str, JobRecord]:
        """The rows of the user's last queue: most of a long queue are the same a second later."""
        if query != JobQuery(user=query.asker, window=query.window, asker=query.asker):
            return {}
        return self._rows_of(query.asker)

    def _rows_of(self, user: str) -> dict[str, JobRecord]:
        known = self._rows.setdefault(user, {})
        self._rows.move_to_end(user)
        rows = sum(map(len, self._rows.values()))
        while rows > REMEMBERED_ROWS:
            rows -= len(self._rows.popitem(last=False)[1])
        return known

    def history(self, query: JobQuery) -> Command[Snapshot]:
        """Run sacct."""
        separator, (details, titles) = self._separator(), self._sacct.asks(query.asker)
        columns = (*SACCT_COLUMNS, *details)
        argv = [f"{self._bin}sacct", *(() if titles else ("--noheader",)), "--parsable", f"--delimiter={separator}"]
        argv.append("--format=" + ",".join(columns))
        argv += _filters(query, account="--accounts", jobs="--jobs")
        if query.window:
            argv.append(f"--starttime=now-{query.window}seconds")
        if query.job_id is None and not query.job_ids and query.user is None:
            argv.append("--allusers")

        def parse(output: Output) -> Snapshot:
            if errors.is_too_wide(output):
                raise WindowTooWide(errors.error_text(output))
            if output.status != 0 and (errors.has_no_accounting(output) or errors.is_unknown_user(output)):
                return Snapshot()
            if output.status != 0 and details and _UNKNOWN_SACCT_COLUMN in output.errors():
                raise self._sacct.without(query.asker, details, output)
            if output.status != 0 and details and not errors.error_text(output):
                raise self._sacct.without_once(query.asker)
            if output.status != 0:
                raise errors.command_error("sacct", output)
            printed = _below_titles("sacct", output, separator, len(columns)) if titles else display(output)
            found = parse_sacct(printed, separator, details)
            return self._checked(self._sacct, query, found, output, titles=titles)

        return Command(argv, parse, env=UNCUT, repeatable=True)

    def _checked(
        self, program: _Program, query: JobQuery, snapshot: Snapshot, output: Output, *, titles: bool
    ) -> Snapshot:
        """The snapshot. Raises the error that the program reports if there are no jobs: its exit status may be 0."""
        if snapshot.records:
            return snapshot
        if errors.reports_error(output) and not errors.is_unknown_user(output):
            raise errors.command_error(program.name, output)
        if snapshot.unreadable_rows and not titles:
            raise program.with_titles(query.asker)
        return snapshot


def _below_titles(program: str, output: Output, separator: str, columns: int) -> str:
    """The rows of an output with titles; "" for lines that are no rows. Raises Upstream without titles."""
    rows = below_header(display(output), separator, columns)
    if rows is None:
        raise Upstream(f"The scheduler's command {program} printed no list, but: {errors.error_text(output)}")
    return rows if separator in rows else ""


def _filters(query: JobQuery, *, account: str, jobs: str) -> list[str]:
    """The options that preselect jobs. `matches` compares the exact values afterwards."""
    if query.job_id is not None:
        job = SlurmJobId.parse(query.job_id)
        return [f"{jobs}={job.argument}", *job.clusters]
    if query.job_ids:
        return [f"{jobs}={','.join(dict.fromkeys(SlurmJobId.parse(one).argument for one in query.job_ids))}"]
    chosen = [] if query.user is None else [f"--user={query.user}"]
    for option, value in ((account, query.account), ("--name", query.name)):
        if value is not None and _PLAIN.fullmatch(value):
            chosen.append(f"{option}={value}")
    return chosen
