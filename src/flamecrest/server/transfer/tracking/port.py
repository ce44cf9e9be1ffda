"""The TrackedTransfers port: one user's transfers on one cluster, of every method."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.values import JobSpec
    from flamecrest.server.transfer.port import StartedTransfer, SubmittedTransfer
    from flamecrest.server.transfer.records.answers import Answers
    from flamecrest.server.transfer.records.record import Direction, Method

State = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"]


@dataclass(frozen=True, slots=True)
class TransferView:
    """A transfer and how far it is. Times are seconds since the epoch, sizes bytes; None: not known."""

    id: str
    method: Method | None  # None: the record is damaged, and nothing more is known than its state and its logs
    direction: Direction | None
    state: State
    path: str
    target: str | None
    target_system: str | None  # of a synchronization or copy to another cluster
    job_id: str | None  # the scheduler's job that does it
    created: int
    ended: int | None
    expires: int | None  # of one that waits for its client
    done: int | None
    total: int | None
    files: int | None  # files that were written
    rate: float | None  # bytes per second
    remaining: int | None  # seconds, at this rate
    etag: str | None
    sha256: str | None  # of the file, if it was verified
    error: str | None
    hint: str | None  # what can be done about the error, or about the reason
    output_log: str
    error_log: str
    then_job_id: str | None  # the job that was submitted when the transfer was complete
    deletes: bool = False  # a synchronization that removes what the source lacks
    reason: str | None = None  # why it is pending
    abandoned: bool = False  # a copy through the object store whose gateway has died: see `settle_copy`


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """Make the folder `target` like `path`. `checksum`: compare content, and not size and time."""

    path: str
    target: str
    checksum: bool = False
    delete: bool = False  # remove what the source lacks
    include: Sequence[str] = ()  # patterns, see trees/patterns.py
    exclude: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What a synchronization would do with one entry."""

    action: Literal["create", "update", "delete", "attributes", "skip", "fail"]
    path: str  # relative to the folders
    kind: Literal["file", "folder", "link", "other"]
    size: int  # bytes
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The first steps of a synchronization, and the sums of all."""

    steps: Sequence[PlannedStep]
    counts: dict[str, int] = field(default_factory=dict)  # by action
    bytes: int = 0  # that would be transferred


class TrackedTransfers(Protocol):
    """One user's transfers on one cluster. Paths have been checked.

    All raise Unsupported if the cluster has no folder for records, Upstream for SSH failures.
    """

    @property
    def answers(self) -> Answers:
        """Answers to requests with an idempotency key."""
        ...

    async def list(self, limit: int, before: str | None, deadline: Deadline) -> list[TransferView]:
        """The newest transfers, newest first; with `before` those that are older than that transfer."""
        ...

    async def get(self, transfer: str, deadline: Deadline) -> TransferView:
        """One transfer, by its id or that of its scheduler job. Raises NotFound."""
        ...

    async def cancel(self, transfer: str, deadline: Deadline) -> TransferView | None:
        """End a transfer and remove what it has not finished; one that has ended stays. Raises NotFound.

        Returns a copy through the object store if another gateway works on it, which may have died: then
        `cancel_steps` has to end its steps.
        """
        ...

    async def cancel_steps(self, transfer: str, target: TrackedTransfers, deadline: Deadline) -> None:
        """End the steps of a copy through the object store on both clusters."""
        ...

    async def settle_copy(self, transfer: str, target: TrackedTransfers, deadline: Deadline) -> TransferView:
        """How an abandoned copy stands by its steps. One that fetches the file goes on; others are ended.

        `target` is the cluster that the copy goes to. What the scheduler says to its job that follows is raised.
        """
        ...

    async def retry(
        self, transfer: str, target: TrackedTransfers, deadline: Deadline
    ) -> StartedTransfer | SubmittedTransfer:
        """Go on with a transfer that has not succeeded. Raises NotFound; Conflict if it has, or is still under way.

        `target` is the cluster that a synchronization or copy goes to.
        """
        ...

    async def plan(self, request: SyncRequest, target: TrackedTransfers, most: int, deadline: Deadline) -> SyncPlan:
        """What a synchronization would do. Changes nothing. Raises NotFound, Denied, Invalid for the source."""
        ...

    async def sync(
        self, request: SyncRequest, target: TrackedTransfers, deadline: Deadline, then: JobSpec | None = None
    ) -> SubmittedTransfer:
        """Start a synchronization. `then` is submitted to the target's scheduler once when it is complete."""
        ...

    def room_to_follow(self, then: JobSpec) -> AbstractContextManager[None]:
        """Keep room for a job that follows, while its transfer is started: `submit_after` is called in the block.

        Raises Invalid for a job that cannot be kept until a transfer is complete, Busy if too many wait.
        """
        ...

    async def submit_after(self, job: SubmittedTransfer, then: JobSpec, deadline: Deadline) -> None:
        """Submit a job once when a transfer, which was just begun, is complete. Repeating it is no error."""
        ...

    async def copy(
        self,
        path: str,
        target_path: str,
        target: TrackedTransfers,
        deadline: Deadline,
        then: JobSpec | None = None,
        account: str | None = None,
    ) -> SubmittedTransfer:
        """Start a copy of a file or folder to another cluster. `account` is charged for the jobs that it may need."""
        ...
