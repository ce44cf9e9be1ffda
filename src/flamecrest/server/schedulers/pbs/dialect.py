"""The dialect of OpenPBS's command-line programs: their arguments, and the parser of each output. No I/O.

The parsers are in `jobs` and `resources`, on top of `document`; error messages in `errors`, state names in `states`,
job ids in `ids`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from flamecrest.server.errors import Upstream
from flamecrest.server.schedulers.dialect import CancelOutcome, Dialect, JobQuery
from flamecrest.server.schedulers.job_errors import scheduler_down
from flamecrest.server.schedulers.merging import Snapshot
from flamecrest.server.schedulers.once.marked_jobs import MarkedJobs
from flamecrest.server.schedulers.reading.sharing import EVERYTHING, Kind
from flamecrest.server.schedulers.values import (
    Job,
    JobAction,
    JobChange,
    JobMetadata,
    JobSpec,
    Node,
    Partition,
    Reservation,
)
from flamecrest.server.ssh.command import Command, Output

from . import control, errors, jobs, resources, submission
from .ids import PbsJobId

if TYPE_CHECKING:
    from flamecrest.server.schedulers.merging import JobRecord

T = TypeVar("T")

SOME_PRIVATE: Final = EVERYTHING - {Kind.NODES, Kind.PARTITIONS}

_LIST: Final = ("-E", "-x", "-f", "-F", "json")  # -E: of several ids all are printed; -x: ended jobs, too
# qstat has no filter of users for JSON. The list of ids may be longer than one argument, but not than all may be.
# Lines of plug-ins and wrappers are no ids.
_OF_USER: Final = (
    'set -f; ids=$("$1" -x -u "$2") || exit; ids=$(printf "%s\\n" "$ids" | LC_ALL=C grep -E "^[0-9]+[^ ]*$"); '
    'test -z "$ids" || exec "$3" -E -x -t -f -F json $ids'
)


class Pbs(Dialect):
    """The dialect of OpenPBS's commands. Recorded versions: 23.06.06, and the newest state of 23.06.

    `bin_dir` is the folder of the commands, None for the PATH. PBS itself remembers ended jobs if its setting
    job_history_enable is on, so there is no other history.
    """

    name = "pbs"
    capabilities = submission.CAPABILITIES
    takes_script_paths = False  # qsub would start the job in the home directory, without the variables of `env`
    has_history = False

    def __init__(self, *, bin_dir: str | None = None) -> None:
        self._bin = "" if bin_dir is None else f"{bin_dir.rstrip('/')}/"

    # jobs

    def submit(self, spec: JobSpec) -> Command[str]:
        """Run qsub in the working directory, with the script over standard input."""
        return submission.submit(self._bin, spec)

    def marked(self, user: str) -> tuple[Command[MarkedJobs], ...]:
        """Look through the user's jobs."""
        argv = self._of_user(user)
        return (Command(argv, lambda output: jobs.marked_jobs(_listing(output)), repeatable=True),)

    def queue_id(self, job_id: str) -> str | None:
        """The number of the job or of its array."""
        return PbsJobId.parse(job_id).number

    def live(self, query: JobQuery) -> Command[Snapshot]:
        """Run qstat: the jobs that the server knows, ended ones included."""
        return Command(self._question(query), lambda output: jobs.parse_jobs(_listing(output)), env=submission.UTC_TIME,
                       repeatable=True)  # fmt: skip

    def _question(self, query: JobQuery) -> tuple[str, ...]:
        ids = (query.job_id,) if query.job_id is not None else query.job_ids
        if ids:
            wanted = dict.fromkeys(one for job_id in ids for one in PbsJobId.parse(job_id).candidates)
            return (f"{self._bin}qstat", *_LIST, *wanted)
        if query.user is not None:
            return self._of_user(query.user)
        return (f"{self._bin}qstat", "-t", *_LIST)

    def _of_user(self, user: str) -> tuple[str, ...]:
        return ("sh", "-c", _OF_USER, "sh", f"{self._bin}qselect", user, f"{self._bin}qstat")

    def select(self, job_id: str, records: Iterable[JobRecord]) -> Job | None:
        """The one job that the id means, among records; see PbsJobId."""
        return PbsJobId.parse(job_id).select(records)

    def metadata(self, job_id: str) -> Command[JobMetadata | None]:
        """Run qstat for the paths; None for an unknown job."""
        job = PbsJobId.parse(job_id)
        argv = (f"{self._bin}qstat", *_LIST, *job.candidates)
        return Command(argv, lambda output: jobs.parse_metadata(_listing(output), job), repeatable=True)

    def cancel(self, job_id: str) -> Command[CancelOutcome]:
        """Run qdel."""
        return control.cancel(self._bin, PbsJobId.parse(job_id))

    def act(self, job_id: str, action: JobAction) -> Command[None]:
        """Run qhold, qrls, qrerun or qsig."""
        return control.act(self._bin, PbsJobId.parse(job_id), action)

    def signal(self, job_id: str, signal: str) -> Command[None]:
        """Run qsig."""
        return control.signal(self._bin, PbsJobId.parse(job_id), signal)

    def change(self, job_id: str, change: JobChange) -> Command[None]:
        """Run qalter."""
        return control.change(self._bin, PbsJobId.parse(job_id), change)

    # nodes, queues, reservations, accounts

    def nodes(self) -> Command[list[Node]]:
        """Run pbsnodes."""
        return self._read(("pbsnodes", "-a", "-F", "json"), lambda output: resources.parse_nodes(output.stdout))

    def partitions(self, *, hidden: bool) -> Command[list[Partition]]:
        """Run `qstat -Q`."""
        argv = ("qstat", "-Q", "-f", "-F", "json")
        return self._read(argv, lambda output: resources.parse_queues(output.stdout, hidden=hidden))

    def reservations(self) -> Command[list[Reservation]]:
        """Run pbs_rstat, which has no JSON."""
        argv = ("pbs_rstat", "-f")
        return self._read(argv, lambda output: resources.parse_reservations(output.stdout.decode("utf-8", "replace")))

    def private(self) -> Command[frozenset[Kind]]:
        """Run `qstat -B` for query_other_jobs. Reservations have lists of authorized users."""

        def parse(output: Output) -> frozenset[Kind]:
            return SOME_PRIVATE if resources.shows_other_jobs(output.stdout) else EVERYTHING

        return self._read(("qstat", "-B", "-f", "-F", "json"), parse)

    def ping(self) -> Command[None]:
        """Run `qstat -B`."""

        def parse(output: Output) -> None:
            if not resources.is_server_up(output.stdout):
                raise scheduler_down("no server in the output of qstat -B")

        return self._read(("qstat", "-B", "-f", "-F", "json"), parse)

    def _read(self, argv: tuple[str, ...], parse: Callable[[Output], T]) -> Command[T]:
        """A command about the server, whose exit status tells whether it failed."""
        program, *options = argv

        def checked(output: Output) -> T:
            if output.status != 0:
                raise errors.command_error(program, output)
            return parse(output)

        return Command((f"{self._bin}{program}", *options), checked, env=submission.UTC_TIME, repeatable=True)


def _listing(output: Output) -> bytes:
    """The output of qstat. Jobs that it does not know are no failure, whatever its exit status is."""
    if output.status != 0 and not errors.is_unknown_job(output):
        raise errors.command_error("qstat", output)
    if output.stdout.strip() and not any(key in output.stdout for key in (b'"pbs_version"', b'"Jobs"')):
        raise Upstream(f"The scheduler's command qstat printed no list, but: {errors.error_text(output)}")
    return output.stdout
