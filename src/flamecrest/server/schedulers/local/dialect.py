"""The dialect of the local scheduler: the verbs of its program as commands. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from flamecrest.server.errors import Invalid, Upstream
from flamecrest.server.schedulers.dialect import CancelOutcome, Dialect, JobQuery
from flamecrest.server.schedulers.job_environment import check_signal
from flamecrest.server.schedulers.job_errors import maybe_submitted, one_line
from flamecrest.server.schedulers.once.marked_jobs import MarkedJobs
from flamecrest.server.schedulers.values import (
    Job,
    JobAction,
    JobChange,
    JobMetadata,
    JobSpec,
    Node,
    Partition,
    Reservation,
    SubmissionCheck,
)
from flamecrest.server.ssh.command import Command, Output

from .ids import LocalJobId
from .jobs import parse_jobs, parse_metadata, parse_node
from .program import Program, answer
from .submission import CAPABILITIES, PARTITION, change_fields, job_fields

if TYPE_CHECKING:
    from flamecrest.server.schedulers.merging import JobRecord, Snapshot

T = TypeVar("T")


class Local(Dialect):
    """The dialect for one user, whose jobs the program keeps in the user's own folder. Others' jobs are not visible."""

    name = "local"
    capabilities = CAPABILITIES
    has_history = False

    def __init__(self, program: Program, user: str) -> None:
        self._program = program
        self._user = user

    # jobs

    def submit(self, spec: JobSpec) -> Command[str]:
        """Write the job into the journal. A job with the same marker is not written twice: its id is returned."""

        def parse(output: Output) -> str:
            try:
                job_id: str = answer(output)["id"]
            except Upstream as error:
                raise error if output.stdout else maybe_submitted(error) from None
            return job_id

        return self._submission(spec, "submit", parse)

    def check(self, spec: JobSpec) -> Command[SubmissionCheck]:
        """Check the job as `submit` does; the start is known only if it is now."""

        def parse(output: Output) -> SubmissionCheck:
            found = answer(output)
            return SubmissionCheck(start=found.get("start"), partition=PARTITION, cpus=found["cpus"])

        return self._submission(spec, "test", parse)

    def _submission(self, spec: JobSpec, verb: str, parse: Any) -> Command[Any]:
        return self._program.submit(verb, job_fields(spec), spec.script or "", spec.env, parse)

    def marked(self, user: str) -> tuple[Command[MarkedJobs], ...]:
        """Look through the journal."""
        del user
        return (self._program.ask("marked", {}, lambda found: MarkedJobs.of(map(tuple, found)), repeatable=True),)

    def queue_id(self, job_id: str) -> str | None:
        """The number of the job or of its array."""
        return LocalJobId.parse(job_id).base_id

    def live(self, query: JobQuery) -> Command[Snapshot]:
        """The jobs in the journal, ended ones included."""
        ids = (query.job_id,) if query.job_id is not None else query.job_ids
        wanted = ",".join(dict.fromkeys(LocalJobId.parse(job_id).base_id for job_id in ids)) or None
        return self._program.ask("jobs", {"ids": wanted}, lambda found: parse_jobs(found, self._user), repeatable=True)

    def select(self, job_id: str, records: Iterable[JobRecord]) -> Job | None:
        """The one job that the id means, among records; several elements are summed up."""
        return LocalJobId.parse(job_id).select(records)

    def raw_job_id(self, job_id: str, records: Iterable[JobRecord]) -> str | None:
        """The id itself: the program finds the one running unit that it means."""
        del records
        return job_id

    def metadata(self, job_id: str) -> Command[JobMetadata | None]:
        """Script and paths; raises NotFound."""

        def parse(found: Any) -> JobMetadata | None:
            return parse_metadata(found, job_id)

        return self._program.ask("metadata", LocalJobId.parse(job_id).fields, parse, repeatable=True)

    def scripts(self, job_id: str) -> tuple[Command[str | None], ...]:
        """The script in the user's folder."""
        fields = LocalJobId.parse(job_id).fields
        return (self._program.ask("metadata", fields, lambda found: found.get("script"), repeatable=True),)

    def cancel(self, job_id: str) -> Command[CancelOutcome]:
        """Cancel what waits, and have the supervisors end what runs. Raises NotFound."""

        def parse(found: Any) -> CancelOutcome:
            return CancelOutcome.ENDED if found["ended"] else CancelOutcome.DONE

        return self._program.ask("cancel", LocalJobId.parse(job_id).fields, parse)

    def act(self, job_id: str, action: JobAction) -> Command[None]:
        """Hold, release, requeue, suspend or resume the job."""
        return self._program.ask("act", {**LocalJobId.parse(job_id).fields, "action": action.value}, _nothing)

    def signal(self, job_id: str, signal: str) -> Command[None]:
        """Send a signal to all processes of the job."""
        return self._program.ask(
            "signal", {**LocalJobId.parse(job_id).fields, "signal": check_signal(signal)}, _nothing
        )

    def change(self, job_id: str, change: JobChange) -> Command[None]:
        """Change the fields of the job."""
        fields = change_fields(change)
        if all(value is None for value in fields.values()):
            raise Invalid("The change of the job has no field")
        return self._program.ask("change", {**fields, **LocalJobId.parse(job_id).fields}, _nothing)

    def attach(self, raw_job_id: str, command: str) -> Command[None]:
        """Run a shell command with the environment of the running job, in its folder."""
        asked = self._program.ask("attach", {**LocalJobId.parse(raw_job_id).fields, "command": command}, _nothing)

        def parse(output: Output) -> None:
            if output.stdout:
                answer(output)
            elif output.status != 0:
                words = one_line(output.errors())
                raise Invalid(f"The command failed with exit status {output.status}{f': {words}' if words else ''}")

        return Command(asked.argv, parse, asked.stdin)

    # the machine

    def nodes(self) -> Command[list[Node]]:
        """The machine."""
        return self._program.ask("node", {}, lambda found: [parse_node(found)], repeatable=True)

    def partitions(self, *, hidden: bool) -> Command[list[Partition]]:
        """The only one."""
        del hidden

        def parse(found: Any) -> list[Partition]:
            return [Partition(PARTITION, "UP", found["cpus"], 1)]

        return self._program.ask("node", {}, parse, repeatable=True)

    def reservations(self) -> Command[list[Reservation]]:
        """None."""
        return self._program.ask("ping", {}, lambda _found: [], repeatable=True)

    def ping(self) -> Command[None]:
        """Start the program."""
        return self._program.ask("ping", {}, _nothing, repeatable=True)


def _nothing(found: Any) -> None:
    del found
