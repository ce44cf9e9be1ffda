"""Moving data where a request can't: the Transfer port and its ticket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.values import Compression


@dataclass(frozen=True, slots=True)
class SubmittedTransfer:
    """A transfer that was handed to the scheduler: where it runs and where it says how it went."""

    job_id: str
    working_directory: str
    output_log: str
    error_log: str


class TransferJobs(Protocol):
    """File operations as batch jobs, seen as one user. Paths were checked. Nothing can be repeated.

    Each returns once the scheduler has the job; Invalid when the cluster needs an account and none is given,
    else what Scheduler.submit raises.
    """

    async def mv(self, source: str, target: str, deadline: Deadline, *, account: str | None) -> SubmittedTransfer:
        """Move or rename."""
        ...

    async def cp(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, dereference: bool
    ) -> SubmittedTransfer:
        """Copy a file or a tree."""
        ...

    async def rm(self, path: str, deadline: Deadline, *, account: str | None) -> SubmittedTransfer:
        """Remove a file or a tree."""
        ...

    async def compress(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        account: str | None,
        compression: Compression,
        pattern: str | None,
        dereference: bool,
    ) -> SubmittedTransfer:
        """Archive a file or a tree."""
        ...

    async def extract(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, compression: Compression
    ) -> SubmittedTransfer:
        """Unpack an archive."""
        ...
