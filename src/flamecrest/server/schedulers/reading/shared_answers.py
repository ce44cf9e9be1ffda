"""Answers that several requests share: a question is asked once at a time, and its answer is kept for a moment.

Knows no scheduler: a question is any coroutine. Keys belong to a group (a user), whose answers are dropped together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Timeout
from flamecrest.server.telemetry.trace import phase

if TYPE_CHECKING:
    from flamecrest.server.schedulers.counters import SchedulerCounters

T = TypeVar("T")

MIN_PATIENCE: Final = 0.05  # seconds that must be left to ask again after the question of another caller timed out
ENDING: Final = 0.5  # seconds in which a question ends after its deadline: its own error says more than a timeout


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Answer(Generic[T]):
    """A value and when it was asked for (monotonic): the value is as of then or later. Compared by identity."""

    value: T
    asked: float


Question = Callable[["Deadline"], Coroutine[Any, Any, T]]


class SharedAnswers(Generic[T]):
    """Asks each question once at a time and keeps its answer for `life` seconds, counted from its arrival.

    `name` is that of the counters. `weigh` returns the weight of a value; at most `max_weight` is kept in all. A value
    that weighs more is shared only by the callers that wait for it. Failures are shared and not kept.
    """

    def __init__(
        self,
        name: str,
        counters: SchedulerCounters,
        *,
        life: float,
        max_weight: int,
        weigh: Callable[[T], int] = lambda _: 1,
        on_answer: Callable[[Hashable, Answer[T]], None] = lambda _key, _answer: None,
    ) -> None:
        self._name = name
        self._counters = counters
        self._life = life
        self._max_weight = max_weight
        self._weigh = weigh
        self._on_answer = on_answer
        self._weight = 0
        self._kept: dict[Hashable, dict[Hashable, _Kept[T]]] = {}  # by group and key
        self._asking: dict[Hashable, dict[Hashable, _Asking[T]]] = {}  # by group and key

    def peek(self, group: Hashable, key: Hashable) -> Answer[T] | None:
        """The answer that is kept, if any. Does not count as saved."""
        kept = self._kept.get(group, {}).get(key)
        return None if kept is None else kept.answer

    async def ask(self, group: Hashable, key: Hashable, question: Question[T], deadline: Deadline) -> Answer[T]:
        """The kept answer, that of a question in flight, or that of `question`. Raises what it raises, and Timeout.

        The question gets the deadline of the caller that asks it. A caller with more time left asks again.
        """
        if (kept := self.peek(group, key)) is not None:
            self._counters.saved[self._name] += 1
            return kept
        while True:
            asking = self._asking.get(group, {}).get(key)
            joined = asking is not None
            if asking is None:
                asking = self._start(group, key, question, deadline)
            else:
                self._counters.saved[self._name] += 1
            try:
                return await asking.wait(deadline)
            except Timeout:
                if not joined or deadline.left() < MIN_PATIENCE or asking.deadline.at >= deadline.at:
                    raise
            except _Abandoned:
                continue

    def put(self, group: Hashable, key: Hashable, answer: Answer[T]) -> None:
        """Keep a part of the answer to another question as the answer to this one."""
        self._keep(group, key, answer)

    def drop(self, group: Hashable) -> None:
        """Drop the group's answers. Its questions in flight are answered to those who wait, and to nobody else."""
        self._asking.pop(group, None)
        for key in list(self._kept.get(group, ())):
            self._forget(group, key)

    def __len__(self) -> int:
        """The number of answers that are kept."""
        return sum(len(answers) for answers in self._kept.values())

    def _start(self, group: Hashable, key: Hashable, question: Question[T], deadline: Deadline) -> _Asking[T]:
        self._counters.asked[self._name] += 1
        asking = _Asking(question, deadline)
        self._asking.setdefault(group, {})[key] = asking
        asking.task.add_done_callback(lambda task: self._done(group, key, asking, task))
        return asking

    def _done(self, group: Hashable, key: Hashable, asking: _Asking[T], task: asyncio.Task[T]) -> None:
        of_group = self._asking.get(group, {})
        if of_group.get(key) is not asking:
            _ = task.cancelled() or task.exception()  # retrieved
            return
        del of_group[key]
        if not of_group:
            del self._asking[group]
        if task.cancelled() or task.exception() is not None:
            return
        answer = Answer(task.result(), asking.asked)
        asking.answer = answer
        self._on_answer(group, answer)
        self._keep(group, key, answer)

    def _keep(self, group: Hashable, key: Hashable, answer: Answer[T]) -> None:
        weight = self._weigh(answer.value)
        if self._life <= 0 or weight > self._max_weight:
            return
        self._forget(group, key)
        while self._weight + weight > self._max_weight:  # the groups are in the order of their first answers
            oldest = next(iter(self._kept))
            self._forget(oldest, next(iter(self._kept[oldest])))
        timer = asyncio.get_running_loop().call_later(self._life, self._forget, group, key)
        self._kept.setdefault(group, {})[key] = _Kept(answer, weight, timer)
        self._weight += weight

    def _forget(self, group: Hashable, key: Hashable) -> None:
        answers = self._kept.get(group, {})
        kept = answers.pop(key, None)
        if kept is None:
            return
        kept.timer.cancel()
        self._weight -= kept.weight
        if not answers:
            del self._kept[group]


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    answer: Answer[T]
    weight: int
    timer: asyncio.TimerHandle


class _Abandoned(Exception):
    """The question was cancelled because nobody waited for it any longer."""


class _Asking(Generic[T]):
    """A question in flight, in a task of its own. It is cancelled when nobody waits for it any longer."""

    def __init__(self, question: Question[T], deadline: Deadline) -> None:
        self.asked = time.monotonic()
        self.deadline = deadline
        self.answer: Answer[T] | None = None
        self.task = asyncio.create_task(question(deadline))
        self._waiting = 0

    async def wait(self, deadline: Deadline) -> Answer[T]:
        """Wait for the answer. Raises a copy of the question's error: tracebacks grow with each raise."""
        self._waiting += 1
        try:
            with phase("ssh"):
                await asyncio.wait((self.task,), timeout=deadline.left())
                if not self.task.done() and self.deadline.at <= deadline.at:
                    await asyncio.wait((self.task,), timeout=ENDING)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.task.cancel()  # does nothing if it is done
        if not self.task.done():
            raise Timeout("The scheduler did not answer in time")
        if self.task.cancelled():
            raise _Abandoned
        error = self.task.exception()
        if isinstance(error, GatewayError):
            raise _copy(error) from error
        return self.answer or Answer(self.task.result(), self.asked)


def _copy(error: GatewayError) -> GatewayError:
    """A copy without traceback. The constructors of subclasses differ, so none is called."""
    twin = type(error).__new__(type(error))
    twin.args = error.args
    twin.__dict__.update(error.__dict__)
    return twin
