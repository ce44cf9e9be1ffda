"""The live queue of each user, as many requests use it: asked once per moment, and refreshed before it is too old.

Knows no scheduler. What the gateway remembers of the jobs is not kept here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Final

from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.merging import Snapshot

from .shared_answers import Answer, ahead_of

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.counters import SchedulerCounters
    from flamecrest.server.schedulers.job_lookup import JobLookup

    from .joint_queues import JointQueues
    from .port import JobReader, ReadLimits
    from .shared_answers import Question

_QUEUE: Final = "queue"


class LiveQueues:
    """The queues of one cluster.

    `on_answer` is told of each new one. `joint` asks about several users at once; None: each asks alone. When a user
    has changed jobs, drop that user of `answers` and add it to `changed`, which has `MAX_USERS` at most: beyond, the
    next question of a user may be a joint one, which begins later as well.
    """

    def __init__(
        self,
        lookup: JobLookup,
        counters: SchedulerCounters,
        limits: ReadLimits,
        on_answer: Callable[[Hashable, Answer[Snapshot]], None],
        *,
        joint: JointQueues | None = None,
    ) -> None:
        self._lookup = lookup
        self._counters = counters
        self._joint = joint
        # users who have changed jobs and not asked since: their next question is their own, at once
        self.changed: OrderedDict[str, None] = OrderedDict()
        self.answers = limits.answers(counters)(
            _QUEUE,
            life=limits.life,
            on_answer=on_answer,
            ahead=ahead_of(limits.life),
            together=self._together,
            counts=False,
        )

    def peek(self, reader: JobReader) -> Answer[Snapshot] | None:
        """The user's queue if it is known. That counts as a use of it."""
        return self.answers.use(reader.user, _QUEUE, self._question(reader))

    async def ask(self, reader: JobReader, deadline: Deadline) -> Answer[Snapshot]:
        """All of the user's own jobs that the live scheduler knows. Raises as JobReader.live."""
        return await self.answers.ask(reader.user, _QUEUE, self._question(reader), deadline)

    def _question(self, reader: JobReader) -> Question[Snapshot]:
        return partial(self._read, reader)

    async def _read(self, reader: JobReader, deadline: Deadline) -> Snapshot:
        own = partial(self._lookup.read, "live", partial(reader.live, JobQuery(user=reader.user)))
        changed = reader.user in self.changed
        self.changed.pop(reader.user, None)
        if self._joint is None:
            self._counters.asked[_QUEUE] += 1
            return await own(deadline)
        if changed:
            return await self._joint.alone(reader.user, own, deadline)
        return await self._joint.read(reader.user, own, deadline)

    def _together(self, user: Hashable) -> bool:
        return self._joint is not None and user not in self.changed and self._joint.takes(str(user))
