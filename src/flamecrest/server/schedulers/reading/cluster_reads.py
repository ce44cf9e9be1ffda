"""Nodes, partitions and reservations as many requests read them.

What all users see alike is asked once for all, if the scheduler's own configuration keeps it from nobody. A user is
given the answer to another user's question only after a question of the user's own has succeeded: a user whom the
cluster refuses gets the refusal. Knows no scheduler and no transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flamecrest.server.errors import GatewayError

from .admissions import Admissions
from .shared_answers import Answer, Question, SharedAnswers

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.counters import SchedulerCounters

T = TypeVar("T")

PRIVACY_LIFE: Final = 60.0  # seconds for which the scheduler's configuration is used
MAX_ANSWERS: Final = 1000
_ALL: Final = ("all",)  # the group of the answers that all users share; no user name is a tuple


class Kind(StrEnum):
    """What is read."""

    NODES = "nodes"
    PARTITIONS = "partitions"
    RESERVATIONS = "reservations"
    ACCOUNTS = "accounts"
    JOBS = "jobs"  # by JointQueues: a list of jobs depends on the user in any case


EVERYTHING: Final = frozenset(Kind)  # kept private, as long as the scheduler's configuration is not known


class ClusterReads:
    """The shared reads of one cluster. `life`: seconds for which an answer is used."""

    def __init__(
        self,
        counters: SchedulerCounters,
        *,
        life: float,
        on_failure: Callable[[str, GatewayError], None] = lambda _what, _error: None,
    ) -> None:
        """`on_failure` is told that the configuration could not be read: then each user asks alone."""
        self._answers = {
            kind: SharedAnswers[Any](kind, counters, life=life, max_weight=MAX_ANSWERS) for kind in EVERYTHING
        }
        self._privacy = SharedAnswers[frozenset[Kind]]("privacy", counters, life=PRIVACY_LIFE, max_weight=1)
        self._on_failure = on_failure
        self._admissions = Admissions()

    async def read(
        self,
        user: str,
        kind: Kind,
        key: Hashable,
        question: Question[T],
        privacy: Question[frozenset[Kind]] | None,
        deadline: Deadline,
    ) -> Answer[T]:
        """The answer to the user's question; `key` tells apart the questions of one kind.

        `privacy` asks which kinds the scheduler keeps private. It is None for what depends on the user in any case.
        """
        answers: SharedAnswers[T] = self._answers[kind]
        known = self._privacy.peek(_ALL, "privacy")
        if privacy is None:
            return await answers.ask(user, key, question, deadline)
        if known is None:
            return await self._first(answers, user, key, question, privacy, deadline)
        if kind in known.value:
            return await answers.ask(user, key, question, deadline)
        if user not in self._admissions:
            answer = await answers.ask(user, key, question, deadline)
            self._admissions.admit(user)
            answers.put(_ALL, key, answer)
            return answer
        return await self._of_all(answers, user, key, question, deadline)

    async def _first(
        self,
        answers: SharedAnswers[T],
        user: str,
        key: Hashable,
        question: Question[T],
        privacy: Question[frozenset[Kind]],
        deadline: Deadline,
    ) -> Answer[T]:
        """The answer to a question of the user's own, while the scheduler's configuration is read beside it."""
        reading = asyncio.ensure_future(self._read_privacy(privacy, deadline))
        try:
            answer = await answers.ask(user, key, question, deadline)
            self._admissions.admit(user)
            await reading
            return answer
        finally:
            reading.cancel()

    async def _read_privacy(self, privacy: Question[frozenset[Kind]], deadline: Deadline) -> None:
        try:
            await self._privacy.ask(_ALL, "privacy", privacy, deadline)
        except GatewayError as error:
            self._on_failure("privacy", error)

    async def _of_all(
        self, answers: SharedAnswers[T], user: str, key: Hashable, question: Question[T], deadline: Deadline
    ) -> Answer[T]:
        """The answer that all share. If the question of another user fails, the user asks alone."""
        mine = False

        def asked(deadline: Deadline) -> Coroutine[Any, Any, T]:
            nonlocal mine
            mine = True
            return question(deadline)

        try:
            answer = await answers.ask(_ALL, key, asked, deadline)
        except GatewayError:
            if mine or not deadline.left():
                raise
            return await answers.ask(user, key, question, deadline)
        if mine:
            self._admissions.admit(user)
        return answer
