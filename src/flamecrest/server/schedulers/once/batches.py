"""The submissions of one request with an idempotency key: they share the searches for their jobs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from flamecrest.server.errors import GatewayError
from flamecrest.server.schedulers.job_errors import NotRecordedYet

from .marked_jobs import MarkedJobs, is_before

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline

SEARCH_LIFE: Final = 1.0  # seconds: meanwhile another replica may submit a job with the same key

_log: Final = logging.getLogger(__name__)


class Searcher(Protocol):
    """What a batch needs of an adapter; see MarkedSubmitter."""

    async def settle(self, prefix: str, deadline: Deadline) -> None:
        """Wait until no earlier submission with such a marker is under way; alternatives are separated by `|`."""
        ...

    async def marked(self, deadline: Deadline) -> MarkedJobs:
        """The user's jobs with markers, ended ones included."""
        ...

    async def marked_live(self, deadline: Deadline) -> MarkedJobs:
        """The same among the jobs that the live scheduler knows."""
        ...

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        """Cancel a job."""
        ...


class Batch:
    """Searches for the jobs of one user, by one question in each SEARCH_LIFE at most.

    `prefixes` are those of the markers. After `confirm`, `kept` has the ids of jobs that were submitted before those of
    this batch with the same marker, by the ids of these, which are cancelled. `clock` is monotonic, in seconds.
    """

    def __init__(
        self, searcher: Searcher, prefixes: Iterable[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.prefixes = frozenset(prefixes)
        self.kept: dict[str, str] = {}
        self._searcher = searcher
        self._clock = clock
        self._asking = asyncio.Lock()
        self._settled = False
        self._found: MarkedJobs | GatewayError | None = None
        self._asked = 0.0
        self._submitted: dict[str, str] = {}  # ids by markers

    async def settle(self, prefix: str, deadline: Deadline) -> None:
        """Wait for earlier submissions of the whole batch, once."""
        del prefix
        async with self._asking:
            if not self._settled:
                await self._searcher.settle("|".join(sorted(self.prefixes)), deadline)
                self._settled = True

    async def find(self, marker: str, deadline: Deadline) -> str | None:
        """The id of the first job whose marker begins so; see MarkedSubmitter."""
        async with self._asking:
            if self._found is None or self._clock() - self._asked > SEARCH_LIFE:
                self._asked = self._clock()
                try:
                    self._found = await self._searcher.marked(deadline)
                except GatewayError as error:
                    self._found = error
            found = self._found
            if isinstance(found, GatewayError):
                raise found
            if (job_id := found.first(marker)) is None and not found.is_certain(marker):
                self._found = None
                raise NotRecordedYet
        return job_id

    def note(self, marker: str, job_id: str) -> None:
        """A job that was submitted after a search that has not found it."""
        self._submitted[marker] = job_id

    async def confirm(self, deadline: Deadline) -> None:
        """Cancel the jobs that another replica has submitted before, at the same moment."""
        if not self._submitted:
            return
        try:
            live = await self._searcher.marked_live(deadline)
            for marker, job_id in self._submitted.items():
                first = live.ids.get(marker)
                if first is not None and is_before(first, job_id):
                    await self._searcher.cancel(job_id, deadline)
                    _log.warning("job %s was submitted before with the same key, as %s: cancelled", job_id, first)
                    self.kept[job_id] = first
        except GatewayError as error:
            _log.warning("second jobs of a batch cannot be ruled out: %s", error.detail or error.public)
