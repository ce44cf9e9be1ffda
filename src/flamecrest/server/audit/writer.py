"""The thread that chains audit records and writes them: requests put a record into its queue and go on.

Knows destinations, and nothing of requests.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.telemetry.counters import Sample

from .chain import Chain

if TYPE_CHECKING:
    from .destinations import Destination

BATCH_SECONDS: Final = 0.05  # in which records are collected before they are written together
RETRY_SECONDS: Final = 1.0  # after a destination has failed
MOST_WAITING: Final = 10_000  # records that may wait for a destination that fails
MOST_KEPT: Final = 2 * MOST_WAITING  # beyond which records of calls that have changed nothing are only counted
CLOSE_SECONDS: Final = 10.0  # for the last records, when the process stops

log = logging.getLogger("flamecrest.audit")


class AuditWriter:
    """Writes records in the order of `add`, to every destination. Use it as an asynchronous context manager.

    A destination that fails is tried again until it takes the lines; they wait in memory. What is still waiting
    `close_seconds` after the end of the block goes to the log. Whatever fails, the thread goes on, and counts it.
    """

    def __init__(
        self, destinations: Sequence[Destination], chain: Callable[[], Chain], *, close_seconds: float = CLOSE_SECONDS
    ) -> None:
        """`chain` makes the chain when the thread starts; if it fails, again until it does not."""
        self._close_seconds = close_seconds
        self._make_chain = chain
        self._chain: Chain | None = None
        self._destinations = destinations
        self._records: deque[Mapping[str, Any]] = deque()
        self._pending: list[deque[bytes]] = [deque() for _ in destinations]
        self._wake = threading.Event()
        self._left_out = 0  # records since the start of which only the number is recorded
        self._noted = 0  # of these, the ones whose number is in the chain
        self._stopping = False
        self._until = float("inf")  # monotonic time at which the thread gives up
        self._failing: set[int] = set()
        self._failures = 0  # attempts to write that have failed
        self._broken = False  # something else than a destination fails
        self._waiting_since = 0.0  # monotonic time at which the oldest record that waits was added; 0.0: none waits
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    async def __aenter__(self) -> AuditWriter:
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._until = time.monotonic() + self._close_seconds
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)

    def add(self, record: Mapping[str, Any], *, changes: bool = True) -> None:
        """Put a record into the queue. Does not block.

        `changes`: the call may have changed something. Others, which nobody can keep from coming, are left out while
        too many wait, and their number is recorded: they must not fill the memory.
        """
        if not changes and self._waiting >= MOST_KEPT:
            self._left_out += 1
            return
        self._records.append(record)
        if not self._waiting_since:
            self._waiting_since = time.monotonic()
        self._wake.set()

    @property
    def behind(self) -> bool:
        """Whether too many records wait for a destination."""
        return self._waiting > MOST_WAITING

    @property
    def failing(self) -> bool:
        """Whether the last attempt to write records has failed: they wait."""
        return self._broken or bool(self._failing)

    @property
    def _waiting(self) -> int:
        return len(self._records) + max(map(len, self._pending), default=0)

    def samples(self) -> list[Sample]:
        """What waits to be written now, as metrics."""
        waiting, since = self._waiting, self._waiting_since
        return [
            Sample("flamecrest_audit_records_waiting", (), waiting),
            Sample("flamecrest_audit_lag_seconds", (), time.monotonic() - since if waiting and since else 0.0),
            Sample("flamecrest_audit_destinations_failing", (), len(self._failing)),
            Sample("flamecrest_audit_failures_total", (), self._failures),
            Sample("flamecrest_audit_records_left_out_total", (), self._left_out),
        ]

    def _run(self) -> None:
        self._attempt()
        while not self._stopping:
            self._wake.wait(RETRY_SECONDS if self._broken or any(self._pending) else None)
            if not self._stopping:
                time.sleep(BATCH_SECONDS)
            self._wake.clear()
            since, self._waiting_since = self._waiting_since, 0.0  # a record that is added meanwhile sets it again
            self._attempt()
            if self._broken or any(self._pending):
                self._waiting_since = since
        if self._left_out > self._noted:
            self._note_left_out()
        self._records.append(_event("stop"))
        self._attempt()
        while self._waiting and time.monotonic() < self._until:
            time.sleep(min(RETRY_SECONDS, 0.2))
            self._attempt()
        self._give_up()

    def _attempt(self) -> None:
        """Chain and write what waits. Errors that no destination has caused are counted and said, and not raised."""
        try:
            if self._chain is None:
                self._chain = self._make_chain()
                self._records.appendleft(_event("start"))
            self._flush(self._chain)
        except Exception as error:  # noqa: BLE001 -- a thread that ends would record nothing any more
            self._failures += 1
            if not self._broken:
                self._broken = True
                log.error("audit records cannot be chained and wait: %s", _words(error))  # noqa: TRY400
        else:
            if self._broken:
                self._broken = False
                log.warning("audit records are chained again")

    def _give_up(self) -> None:
        """Give what still waits to the log, and close the destinations."""
        for destination, pending in zip(self._destinations, self._pending, strict=True):
            for line in pending:
                log.error("audit record not written", extra={"fields": {"record": line.decode().rstrip()}})
            try:
                destination.close()
            except Exception as error:  # noqa: BLE001 -- the others are to be closed, too
                log.error("a destination of audit records cannot be closed: %s", _words(error))  # noqa: TRY400
        for record in self._records:  # there is no chain
            log.error("audit record not written", extra={"fields": {"record": json.dumps(record, default=str)}})

    def _flush(self, chain: Chain) -> None:
        """Chain all records, and write all lines that wait."""
        while self._records:
            record = self._records.popleft()
            try:
                line = chain.seal(record)
            except BaseException:
                self._records.appendleft(record)
                raise
            for pending in self._pending:
                pending.append(line)
        for at, pending in enumerate(self._pending):
            if pending:
                self._write(at, pending)
        if self._left_out > self._noted and not any(self._pending):
            self._note_left_out()
            self._flush(chain)

    def _write(self, at: int, pending: deque[bytes]) -> None:
        """Write the lines that wait for a destination, as many as it takes."""
        try:
            for _ in range(self._destinations[at].write(tuple(pending))):
                pending.popleft()
        except Exception as error:  # noqa: BLE001 -- the lines wait, and other destinations get theirs
            self._failures += 1
            if at not in self._failing:
                self._failing.add(at)
                log.error("audit records cannot be written and wait: %s", _words(error))  # noqa: TRY400
        else:
            if at in self._failing:
                self._failing.discard(at)
                log.warning("audit records are written again")

    def _note_left_out(self) -> None:
        """Record how many records were left out."""
        count = self._left_out - self._noted
        self._noted += count
        self._records.append({**_event("left_out"), "count": count})
        log.error("%d audit records of calls that have changed nothing were left out: too many waited", count)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def _event(name: str) -> dict[str, Any]:
    return {"ts": datetime.now(UTC).isoformat(timespec="microseconds"), "event": name}
