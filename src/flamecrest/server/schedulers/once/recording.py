"""Jobs that the queue shows and the accounting does not: for how long they are waited for. No I/O."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

LATE: Final = 60.0  # seconds after which the accounting has every job that it will have
_MOST: Final = 10_000  # users


class UnrecordedJobs:
    """The jobs of each user that the accounting did not have yet, and since when.

    Times are those of this machine, counted from the first search that has missed a job: the clock of the cluster may
    be another one. `clock` is monotonic, in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: OrderedDict[str, dict[str, float]] = OrderedDict()

    def expected(self, user: str, missing: Collection[str]) -> bool:
        """Whether one of the jobs that the accounting does not have may still come; `missing` are all of the user."""
        now = self._clock()
        before = self._since.pop(user, {})
        since = {job_id: before.get(job_id, now) for job_id in missing}
        if since:
            self._since[user] = since
            while len(self._since) > _MOST:
                self._since.popitem(last=False)
        return any(now - at < LATE for at in since.values())
