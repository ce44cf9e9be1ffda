"""Slurm by slurmrestd and by commands: what slurmrestd cannot do is done by commands on a login node.

So is everything while slurmrestd cannot be reached: nothing has been sent to it then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

from flamecrest.server.errors import GatewayError, Timeout
from flamecrest.server.schedulers.capabilities import Capabilities, Operation, changed_fields, given_fields

from .rest.client import NotSent
from .rest.directives import has_directives

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.port import Scheduler
    from flamecrest.server.schedulers.values import (
        Account,
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

    from .rest.scheduler import RestScheduler

T = TypeVar("T")


class HybridScheduler:
    """The Scheduler port for one user over two adapters of the same Slurm."""

    def __init__(self, rest: RestScheduler, commands: Scheduler) -> None:
        self._rest = rest
        self._commands = commands

    @property
    def capabilities(self) -> Capabilities:
        """What one of the two can do."""
        one, other = self._rest.capabilities, self._commands.capabilities
        return Capabilities(one.fields | other.fields, one.changes | other.changes, one.operations | other.operations)

    @property
    def age(self) -> float:
        """The age of what was read; see the port."""
        return max(self._rest.age, self._commands.age)

    async def _read(self, question: Callable[[Scheduler], Awaitable[T]]) -> T:
        """The answer of slurmrestd; that of the commands while it cannot be reached."""
        if not self._rest.is_down:
            try:
                return await question(self._rest)
            except GatewayError:
                if not self._rest.is_down:
                    raise
        return await question(self._commands)

    async def _write(
        self, change: Callable[[Scheduler], Awaitable[T]], fits: Callable[[], bool], deadline: Deadline
    ) -> T:
        """A change by slurmrestd if it `fits` its version; by commands else, or if nothing could be sent to it."""
        if not self._rest.is_down:
            try:
                await self._rest.prepare(deadline)
                if fits():
                    return await change(self._rest)
            except NotSent:
                pass
        return await change(self._commands)

    async def submit(self, spec: JobSpec, deadline: Deadline) -> str:
        """Submit a job; by sbatch if the script has `#SBATCH` lines, or if slurmrestd lacks a field of the job.

        With an idempotency key by sbatch as well: the accounting records its arguments, and comments not everywhere.
        """
        if spec.script is None or spec.idempotency_key is not None or has_directives(spec.script):
            return await self._commands.submit(spec, deadline)

        def fits() -> bool:
            return self._rest.capabilities.fields.issuperset(given_fields(spec))

        return await self._write(lambda one: one.submit(spec, deadline), fits, deadline)

    def batch(self, specs: Sequence[JobSpec], seconds: float) -> AbstractAsyncContextManager[Mapping[str, str]]:
        """A block that submits these jobs; those with keys are submitted by commands."""
        return self._commands.batch(specs, seconds)

    async def check(self, spec: JobSpec, deadline: Deadline) -> SubmissionCheck:
        """Ask whether the job would be accepted; by commands."""
        return await self._commands.check(spec, deadline)

    async def find(self, marker: str, deadline: Deadline) -> str | None:
        """The id of the job with this marker; by commands."""
        return await self._commands.find(marker, deadline)

    async def jobs(
        self, *, all_users: bool, account: str | None, name: str | None, window: int, deadline: Deadline
    ) -> list[Job]:
        """Jobs that were alive in the window; by commands where the cluster has many, because they can filter."""

        async def ask(one: Scheduler, deadline: Deadline) -> list[Job]:
            return await one.jobs(all_users=all_users, account=account, name=name, window=window, deadline=deadline)

        if not self._rest.lists_are_large:
            half = deadline.sub(deadline.left() / 2)
            try:
                return await self._read(lambda one: ask(one, half if one is self._rest else deadline))
            except Timeout:  # half of the time is left for commands
                pass
        return await ask(self._commands, deadline)

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        """The job; one of another cluster by commands."""
        if "." in job_id:
            return await self._commands.job(job_id, deadline)
        return await self._read(lambda one: one.job(job_id, deadline))

    async def jobs_by_id(self, job_ids: Sequence[str], deadline: Deadline) -> dict[str, Job | GatewayError]:
        """Each of the jobs; those of other clusters by commands."""
        local = [job_id for job_id in job_ids if "." not in job_id]
        others = [job_id for job_id in job_ids if "." in job_id]
        found = await self._rest.jobs_by_id(local, deadline) if local and not self._rest.is_down else {}
        if self._rest.is_down:
            others += [job_id for job_id in local if isinstance(found.get(job_id, NotSent("")), GatewayError)]
        found |= await self._commands.jobs_by_id(others, deadline) if others else {}
        return {job_id: found[job_id] for job_id in dict.fromkeys(job_ids)}

    async def wait_for_change(self, seconds: float) -> None:
        """Return when there may be news of the caller's jobs; see the port."""
        await self._rest.wait_for_change(seconds)

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        """Script and paths; by commands, because slurmrestd does not give scripts."""
        return await self._commands.metadata(job_id, deadline)

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        """Cancel the job; one of another cluster by commands."""
        await self._write(lambda one: one.cancel(job_id, deadline), lambda: "." not in job_id, deadline)

    async def act(self, job_id: str, action: JobAction, deadline: Deadline) -> None:
        """Hold, release, requeue, suspend or resume the job; see the port."""
        await self._operate(Operation(action), job_id, lambda one: one.act(job_id, action, deadline), deadline)

    async def signal(self, job_id: str, signal: str, deadline: Deadline) -> None:
        """Send a signal to the job; see the port."""
        await self._operate(Operation.SIGNAL, job_id, lambda one: one.signal(job_id, signal, deadline), deadline)

    async def _operate(
        self, operation: Operation, job_id: str, change: Callable[[Scheduler], Awaitable[None]], deadline: Deadline
    ) -> None:
        def fits() -> bool:
            return operation in self._rest.capabilities.operations and not _is_special(job_id)

        await self._write(change, fits, deadline)

    async def change(self, job_id: str, change: JobChange, deadline: Deadline) -> None:
        """Change the fields of a job; see the port."""

        def fits() -> bool:
            return self._rest.capabilities.changes.issuperset(changed_fields(change)) and not _is_special(job_id)

        await self._write(lambda one: one.change(job_id, change, deadline), fits, deadline)

    async def attach(self, job_id: str, command: str, deadline: Deadline) -> None:
        """Run a shell command in the job; by commands."""
        await self._commands.attach(job_id, command, deadline)

    async def nodes(self, deadline: Deadline) -> list[Node]:
        """All nodes; see the port."""
        return await self._read(lambda one: one.nodes(deadline))

    async def partitions(self, deadline: Deadline, *, hidden: bool) -> list[Partition]:
        """Partitions; see the port."""
        return await self._read(lambda one: one.partitions(deadline, hidden=hidden))

    async def reservations(self, deadline: Deadline) -> list[Reservation]:
        """Reservations; see the port."""
        return await self._read(lambda one: one.reservations(deadline))

    async def accounts(self, deadline: Deadline) -> list[Account] | None:
        """The user's accounts; by commands if slurmrestd does not give them."""
        found = None if self._rest.is_down else await self._rest.accounts(deadline)
        return await self._commands.accounts(deadline) if found is None and self._rest.is_down else found

    async def ping(self, deadline: Deadline) -> None:
        """Check that the scheduler answers; see the port."""
        await self._read(lambda one: one.ping(deadline))


def _is_special(job_id: str) -> bool:
    """Whether the id is one of another cluster, or of elements of an array, which slurmrestd cannot change alone."""
    return any(sign in job_id for sign in "._[")
