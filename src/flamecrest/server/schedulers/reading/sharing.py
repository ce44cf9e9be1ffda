"""What may be shared among users, and who may be given it: both are "no" until the cluster itself has said yes.

What all share is never read over a user's login: users may change what programs print for them (start-up files, a
`squeue` of their own), and must not be able to change it for others. It is asked by an account of the gateway's.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import Context
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError

from .shared_answers import SharedAnswers

if TYPE_CHECKING:
    from flamecrest.server.schedulers.counters import SchedulerCounters

    from .shared_answers import Question

ADMITTED_FOR: Final = 600.0  # seconds after a question of one's own in which a user is given answers to others
MAX_USERS: Final = 10_000
PAUSE: Final = 30.0  # seconds in which the account is not asked again after it has failed
PATIENCE: Final = 5.0  # seconds that the account may take, at most, before each user asks alone
PRIVACY_LIFE: Final = 60.0  # seconds for which the scheduler's configuration is used


class Kind(StrEnum):
    """What is read."""

    NODES = "nodes"
    PARTITIONS = "partitions"
    RESERVATIONS = "reservations"
    ACCOUNTS = "accounts"
    JOBS = "jobs"  # by JointQueues: a list of jobs depends on the user in any case


EVERYTHING: Final = frozenset(Kind)


class Privacy:
    """What the scheduler's configuration keeps private, as the cluster's account reads it once for all.

    It is read behind the requests: everything is private until it is known, and while it cannot be read. `question`
    asks it by the account; None: there is none, and nothing is shared.
    """

    def __init__(
        self,
        question: Question[frozenset[Kind]] | None,
        counters: SchedulerCounters,
        on_failure: Callable[[str, GatewayError], None],
        *,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._question = question
        self._on_failure = on_failure
        self._ticks = ticks
        self._known = SharedAnswers[frozenset[Kind]](
            "privacy", counters, life=PRIVACY_LIFE, max_weight=1, ahead=PRIVACY_LIFE / 4
        )
        self._reading: asyncio.Task[None] | None = None
        self._paused_until = float("-inf")

    def shows(self, kind: Kind) -> bool:
        """Whether all users see that alike; no, as long as that is not known."""
        if self._question is None:
            return False
        known = self._known.use("", "", self._question)
        if known is None and self._reading is None and self._ticks() >= self._paused_until:
            # not part of the request that happens to be the first
            self._reading = asyncio.create_task(self._read(self._question), context=Context())
        return known is not None and kind not in known.value

    async def _read(self, question: Question[frozenset[Kind]]) -> None:
        try:
            await self._known.ask("", "", question, Deadline.after(PATIENCE))
        except GatewayError as error:
            self._on_failure("privacy", error)
            self._paused_until = self._ticks() + PAUSE
        finally:
            self._reading = None


class Admissions:
    """The users whom the cluster has answered a question of their own not long ago. `ticks` returns monotonic time."""

    def __init__(self, ticks: Callable[[], float] = time.monotonic) -> None:
        self._ticks = ticks
        self._admitted: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, user: str) -> bool:
        return self._ticks() - self._admitted.get(user, float("-inf")) < ADMITTED_FOR

    def admit(self, user: str) -> None:
        """Note that a question of the user's own has succeeded now."""
        self._admitted[user] = self._ticks()
        self._admitted.move_to_end(user)
        if len(self._admitted) > MAX_USERS:
            self._admitted.popitem(last=False)
