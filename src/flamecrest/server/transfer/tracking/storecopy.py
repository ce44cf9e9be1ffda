"""A copy of one file to another cluster through the object store that both use: one mover sends it, another fetches it.

Both steps are transfers with records of their own. What has not succeeded is cancelled, and the object is removed. When
the gateway has died that copies, the step that fetches the file goes on, and any other gateway shows how it ends.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Busy, GatewayError, Timeout, Unavailable, Upstream
from flamecrest.server.transfer.port import TransferRequest
from flamecrest.server.transfer.records.record import End, Progress
from flamecrest.server.transfer.s3.access import parts_of

from .background import STOPPED, GoesOn, is_stop

if TYPE_CHECKING:
    from flamecrest.server.transfer.s3.methods import SeenTransfer, StoreTransfers

STEP: Final = 60.0  # seconds for each step and each look
CLEANING: Final = 20.0  # seconds
LONGEST_PAUSE: Final = 10.0  # seconds between two looks
PATIENCE: Final = 600.0  # seconds in which a cluster may be out of reach
THROUGH_STORE: Final = "store"  # in the details of the record: `through`


class StoreCopy:
    """Copies a file of `size` bytes. `account` is charged for the mover jobs. `transfer` is the id of the copy."""

    def __init__(
        self,
        transfer: str,
        source: StoreTransfers,
        target: StoreTransfers,
        path: str,
        target_path: str,
        size: int,
        account: str | None,
    ) -> None:
        self._transfer = transfer
        self._source = source
        self._target = target
        self._path = path
        self._target_path = target_path
        self._size = size
        self._account = account
        self._seen: list[Progress | None] = []  # the progress of each step
        self._fetching = False  # the second step has begun, which goes on without this gateway

    async def run(self) -> End:
        """Copy it."""
        await self._target.check_target(self._target_path, Deadline.after(STEP))
        try:
            request = TransferRequest("s3")
            begun = await self._source.download(
                self._path, Deadline.after(STEP), account=self._account, request=request, copy=self._transfer
            )
            sent = await self._ended(self._source, begun.job.job_id, "sent to the object store")
            item, plan = replace(self._source.place(sent.record), account=self._account or ""), parts_of(sent.record)
            sha256 = "" if sent.end is None else sent.end.sha256
            self._fetching = True
            received = await self._target.receive(
                self._target_path, item, plan, sha256, Deadline.after(STEP), self._transfer
            )
            await self._ended(self._target, received.job_id, "fetched from the object store")
        except BaseException as error:
            if self._fetching and is_stop(error):
                raise GoesOn from None
            with suppress(GatewayError):
                limit = Deadline.after(CLEANING)
                await cancel_steps(self._transfer, self._source, self._target, limit)
                end, _ = await end_of_left(self._transfer, self._source, self._target, limit)
                if end is not None and end.state == "COMPLETED":  # the file was in its place already
                    return end
            raise
        return End("COMPLETED", int(time.time()), sha256=sha256)

    async def _ended(self, store: StoreTransfers, transfer: str, what: str) -> SeenTransfer:
        """Wait for the end of a step. Raises Upstream if it has not succeeded."""
        self._seen.append(None)
        begun = heard = time.monotonic()
        while True:
            await asyncio.sleep(min(LONGEST_PAUSE, 0.5 + (time.monotonic() - begun) / 20))
            try:
                seen = await store.look(transfer, Deadline.after(STEP))
            except (Unavailable, Timeout, Busy, Upstream):
                if time.monotonic() - heard > PATIENCE:
                    raise
                continue
            heard = time.monotonic()
            self._seen[-1] = seen.progress
            if seen.end is None:
                continue
            if seen.end.state != "COMPLETED":
                raise Upstream(f"The file was not {what}: {seen.end.error or seen.end.state}")
            self._seen[-1] = Progress(seen.end.at, self._size)
            return seen

    def progress(self) -> Progress:
        """How far it is: each of the two steps is half of the way."""
        done = sum(one.done for one in self._seen if one is not None) // 2
        now = self._seen[-1] if self._seen else None
        return Progress(int(time.time()), done, self._size, int(done == self._size), "" if now is None else now.job_id)

    def errors(self) -> list[str]:
        """None but that of its end."""
        return []


async def cancel_steps(
    copy: str, source: StoreTransfers | None, target: StoreTransfers | None, deadline: Deadline
) -> None:
    """End the steps of a copy on both clusters, those of the target first, and remove its object."""
    for store in (target, source):
        if store is not None:
            await store.cancel_steps(copy, deadline)


async def end_of_left(
    copy: str, source: StoreTransfers | None, target: StoreTransfers | None, deadline: Deadline
) -> tuple[End | None, Progress]:
    """How a copy has ended whose gateway has died, and how far it is. None: the file is being fetched."""
    now = int(time.time())
    looks = [] if target is None else [target.look(step, deadline) for step in await target.steps(copy, deadline)]
    for seen in await asyncio.gather(*looks):
        size = seen.record.size
        if seen.end is None:
            done = 0 if seen.progress is None else seen.progress.done
            return None, Progress(now, (size + done) // 2, size, job_id=seen.progress.job_id if seen.progress else "")
        if seen.end.state == "COMPLETED":
            return End("COMPLETED", now, sha256=seen.end.sha256), Progress(now, size, size, 1)
    await cancel_steps(copy, source, target, deadline)
    return End("FAILED", now, error=STOPPED), Progress(now)
