"""Nodes, partitions and reservations as many requests read them.

What all users see alike is asked once for all by the cluster's account, if the scheduler's own configuration keeps it
from nobody. A user is given that answer only after a question of the user's own has succeeded: a user whom the cluster
refuses gets the refusal. The answer to a user's own question is given to that user alone. Knows no scheduler and no
transport.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flamecrest.server.errors import GatewayError

from .shared_answers import Answer, Question, SharedAnswers, ahead_of
from .sharing import EVERYTHING, PATIENCE, PAUSE, Admissions, Kind, Privacy

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.counters import SchedulerCounters

T = TypeVar("T")

MAX_ANSWERS: Final = 1000
_ALL: Final = ("all",)  # the group of the answers that all users share; no user name is a tuple


class ClusterReads:
    """The shared reads of one cluster. `life`: seconds for which an answer is used. `ticks` returns monotonic time."""

    def __init__(
        self,
        counters: SchedulerCounters,
        privacy: Privacy,
        *,
        life: float,
        on_failure: Callable[[str, GatewayError], None] = lambda _what, _error: None,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_failure` is told that the account's question has failed: then each user asks alone for a while."""
        self._answers = {
            kind: SharedAnswers[Any](kind, counters, life=life, max_weight=MAX_ANSWERS, ahead=ahead_of(life))
            for kind in EVERYTHING
        }
        self._privacy = privacy
        self._on_failure = on_failure
        self._ticks = ticks
        self._admissions = Admissions(ticks)
        self._paused_until: dict[Kind, float] = {}

    def known(self, user: str, kind: Kind, key: Hashable, *, personal: bool) -> Answer[Any] | None:
        """What `read` would answer, if it is kept. Most requests need no more, and no question is made for them."""
        if personal:
            return self._answers[kind].kept(user, key)
        return self._answers[kind].kept(_ALL, key) if self._is_shared(user, kind) else None

    async def read(
        self, user: str, kind: Kind, key: Hashable, own: Question[T], for_all: Question[T] | None, deadline: Deadline
    ) -> Answer[T]:
        """The answer to the user's question; `key` tells apart the questions of one kind.

        `own` asks as the user, `for_all` as the cluster's account: None without an account, and for what depends on the
        user in any case.
        """
        answers: SharedAnswers[T] = self._answers[kind]
        if for_all is not None and self._is_shared(user, kind):
            if (kept := answers.kept(_ALL, key, for_all)) is not None:
                return kept
            try:
                return await answers.ask(_ALL, key, for_all, deadline.sub(min(PATIENCE, deadline.left() / 2)))
            except GatewayError as error:
                self._failed(kind, error)
        answer = await answers.ask(user, key, own, deadline)
        if for_all is not None:
            self._admissions.admit(user)
        return answer

    def _is_shared(self, user: str, kind: Kind) -> bool:
        """Whether the user is given what the account reads. Is asked for every user, so that it is known soon."""
        shown = self._privacy.shows(kind)
        return shown and user in self._admissions and not self._is_paused(kind)

    def _is_paused(self, kind: Kind) -> bool:
        return self._ticks() < self._paused_until.get(kind, float("-inf"))

    def _failed(self, kind: Kind, error: GatewayError) -> None:
        """Note the account's failure, once for all who have waited for its answer."""
        if not self._is_paused(kind):
            self._on_failure(kind, error)
            self._paused_until[kind] = self._ticks() + PAUSE
