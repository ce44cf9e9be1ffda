"""Copies to another system whose gateway has died: that system is asked, with the caller's permission there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import Conflict, Denied, GatewayError, Invalid
from flamecrest.server.schedulers.values import Stage
from flamecrest.server.transfer.direct.lookup import COPY
from flamecrest.server.transfer.records.names import is_transfer_id
from flamecrest.server.transfer.tracking.jobs import ABANDONED

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.http.core.route import Call
    from flamecrest.server.schedulers.port import JobLookup
    from flamecrest.server.schedulers.values import Job
    from flamecrest.server.transfer.tracking.port import TrackedTransfers, TransferView


async def find_job(call: Call, jobs: JobLookup, job_id: str, deadline: Deadline) -> list[Job]:
    """A job. If it is an abandoned copy it stands as its transfer does, for a caller who may see that."""
    found = await jobs.job(job_id, deadline)
    if not any(one.reason == ABANDONED for one in found):
        return found
    try:
        allowed = await call.cluster.allow(call.identity, Verb.TRANSFER, deadline, jobs=(job_id,))
        tracked = allowed.tracked_transfers()
        seen = await settled(call, tracked, await tracked.get(job_id, deadline), deadline)
    except Denied:
        return found
    if seen.ended is not None:
        return await jobs.job(job_id, deadline)
    return [replace(one, reason=seen.error) for one in found]


async def cancel_job(call: Call, jobs: JobLookup, job_id: str) -> None:
    """Cancel a job. The steps of a copy are ended, too: one that waits would replace the target later."""
    found: list[Job] = []
    if is_transfer_id(job_id):
        with suppress(Conflict, Invalid):  # its record was damaged
            found = await jobs.job(job_id, call.deadline)
    if any(one.name == COPY and one.stage is Stage.RUNNING for one in found):
        with suppress(Denied):
            allowed = await call.cluster.allow(call.identity, Verb.TRANSFER, call.deadline, jobs=(job_id,))
            await cancel_transfer(call, allowed.tracked_transfers(), job_id)
            return
    await jobs.cancel(job_id, call.deadline)


async def cancel_transfer(call: Call, tracked: TrackedTransfers, transfer_id: str) -> None:
    """Cancel a transfer, and the steps of a copy that another gateway works on."""
    left = await tracked.cancel(transfer_id, call.deadline)
    if left is not None and left.target is not None:
        target = await target_transfers(call, left.target_system, left.target, call.deadline)
        await tracked.cancel_steps(left.id, target, call.deadline)


async def settled(call: Call, tracked: TrackedTransfers, seen: TransferView, deadline: Deadline) -> TransferView:
    """A transfer. An abandoned copy stands as both systems say; it is under way while the other cannot be asked."""
    if not seen.abandoned or seen.target is None:
        return seen
    try:
        target = await target_transfers(call, seen.target_system, seen.target, deadline)
        return await tracked.settle_copy(seen.id, target, deadline)
    except GatewayError as error:
        reason = f"The gateway that copied it was stopped, and {seen.target_system} cannot be asked: {error.public}"
        return replace(seen, error=reason, hint=None)


async def target_transfers(
    call: Call, system: str | None, path: str, deadline: Deadline, *, name: str = "targetPath", removes: bool = False
) -> TrackedTransfers:
    """The transfers on the target's system, which need the caller's permission there. `name` is that of the path."""
    cluster = call.cluster if system is None else call.gateway.cluster(system)
    allowed = await cluster.allow(call.identity, Verb.TRANSFER, deadline, path, tree=True)
    target = allowed.tracked_transfers(**{name: path})
    if removes:
        allowed.refuse_root(path)
    return target
