"""Answers that several requests share: a question is asked once at a time, and its answer is kept for a moment.

Knows no scheduler: a question is any coroutine. Keys belong to a group (a user), whose answers are dropped together.
An answer that is asked for again and again is refreshed shortly before its end, so that nobody waits for a question.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Timeout
from flamecrest.server.telemetry.trace import phase

if TYPE_CHECKING:
    from flamecrest.server.schedulers.counters import SchedulerCounters

T = TypeVar("T")

MIN_PATIENCE: Final = 0.05  # seconds that must be left to ask again after the question of another caller timed out
AHEAD: Final = 0.3  # the part of an answer's life before its end in which it is refreshed
LEAST_LIFE: Final = 0.1  # seconds: a shorter life is over before a refresh has its answer
REFRESHING: Final = 10.0  # seconds that a refresh may take, at most
ENDING: Final = 0.5  # seconds in which a question ends after its deadline: its own error says more than a timeout


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Answer(Generic[T]):
    """A value and when it was asked for (monotonic): the value is as of then or later. Compared by identity.

    `parts` are what was made of it, by what they are for.
    """

    value: T
    asked: float
    parts: dict[Hashable, Any] = field(default_factory=dict, repr=False)


Question = Callable[["Deadline"], Coroutine[Any, Any, T]]


def ahead_of(life: float) -> float:
    """How many seconds before the end of its life an answer is refreshed; 0: never."""
    return AHEAD * life if life >= LEAST_LIFE else 0.0


class SharedAnswers(Generic[T]):
    """Asks each question once at a time and keeps its answer for `life` seconds, counted from its arrival.

    `name` is that of the counters; `counts`: questions are counted here, not by who asks them. `weigh` returns the
    weight of a value; at most `max_weight` is kept in all. A value that weighs more is shared only by the callers that
    wait for it. Failures are shared and not kept.

    An answer that was used (`use`, `ask`) is asked for anew by the last one's question `ahead` seconds before its end,
    or when it is used later than that; 0: never. `together` tells for which groups this may be done up to half a life
    earlier, along with others, and once more after the last use. While such a question is under way the answer is used
    for up to another `life`, and no longer than that.
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
        ahead: float = 0.0,
        together: Callable[[Hashable], bool] = lambda _group: False,
        counts: bool = True,
    ) -> None:
        self._name = name
        self._counters = counters
        self._life = life
        self._max_weight = max_weight
        self._weigh = weigh
        self._on_answer = on_answer
        self._ahead = ahead
        self._together = together
        self._counts = counts
        self._weight = 0
        self._kept: dict[Hashable, dict[Hashable, _Kept[T]]] = {}  # by group and key
        self._asking: dict[Hashable, dict[Hashable, _Asking[T]]] = {}  # by group and key

    def peek(self, group: Hashable, key: Hashable) -> Answer[T] | None:
        """The answer that is kept, if any. Does not count as saved."""
        answers = self._kept.get(group)
        kept = None if answers is None else answers.get(key)
        return None if kept is None else kept.answer

    def kept(self, group: Hashable, key: Hashable, question: Question[T] | None = None) -> Answer[T] | None:
        """The same as `use`, to one who would ask otherwise: without a coroutine."""
        kept = self.use(group, key, question)
        if kept is not None:
            self._counters.saved[self._name] += 1
        return kept

    def use(self, group: Hashable, key: Hashable, question: Question[T] | None = None) -> Answer[T] | None:
        """The answer that is kept, if any; `question` refreshes it. Does not count as saved.

        Without a question, that of an earlier use refreshes it; an answer that has none yet is not given.
        """
        answers = self._kept.get(group)
        kept = None if answers is None else answers.get(key)
        if kept is None:
            return None
        if self._ahead:
            if question is not None:
                kept.question = question
            elif kept.question is None:
                return None
            if kept.is_due and not kept.refreshed:
                self._refresh(group, key)
        return kept.answer

    async def ask(self, group: Hashable, key: Hashable, question: Question[T], deadline: Deadline) -> Answer[T]:
        """The kept answer, that of a question in flight, or that of `question`. Raises what it raises, and Timeout.

        The question gets the deadline of the caller that asks it. A caller with more time left asks again.
        """
        if (kept := self.kept(group, key, question)) is not None:
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
        for asking in self._asking.pop(group, {}).values():
            asking.release()
        for key in list(self._kept.get(group, ())):
            self._forget(group, key)

    def __len__(self) -> int:
        """The number of answers that are kept."""
        return sum(len(answers) for answers in self._kept.values())

    def _start(
        self, group: Hashable, key: Hashable, question: Question[T], deadline: Deadline, *, behind: bool = False
    ) -> _Asking[T]:
        if self._counts:
            self._counters.asked[self._name] += 1
        asking = _Asking(question, deadline, behind=behind)
        self._asking.setdefault(group, {})[key] = asking
        asking.task.add_done_callback(lambda task: self._done(group, key, asking, task))
        return asking

    def _fall_due(self, group: Hashable, key: Hashable) -> None:
        """Refresh an answer if it has been used; else it is refreshed when it is used now."""
        self._kept[group][key].is_due = True
        self._refresh(group, key)

    def _refresh(self, group: Hashable, key: Hashable) -> None:
        """Ask for an answer anew that is due and has been used; with it, what is due soon and may be asked together."""
        kept = self._kept.get(group, {}).get(key)
        if kept is None or kept.refreshed or kept.question is None:
            return
        due = [(group, key, kept)]
        if self._together(group):
            soon = asyncio.get_running_loop().time() + self._life / 2
            due += [
                (other, one, also)
                for other, answers in self._kept.items()
                for one, also in answers.items()
                if also is not kept and also.due <= soon and also.asked_by is not None and self._together(other)
            ]
        for other, one, also in due:
            question = also.asked_by
            if question is not None and not also.refreshed and one not in self._asking.get(other, {}):
                also.refreshed = True
                self._start(other, one, question, Deadline.after(REFRESHING), behind=True)

    def _done(self, group: Hashable, key: Hashable, asking: _Asking[T], task: asyncio.Task[T]) -> None:
        of_group = self._asking.get(group, {})
        if of_group.get(key) is not asking:
            _ = task.cancelled() or task.exception()  # retrieved
            return
        del of_group[key]
        if not of_group:
            del self._asking[group]
        if task.cancelled() or task.exception() is not None:
            self._not_refreshed(group, key, asking, task)
            return
        answer = Answer(task.result(), asking.asked)
        asking.answer = answer
        self._on_answer(group, answer)
        self._keep(group, key, answer)

    def _not_refreshed(self, group: Hashable, key: Hashable, asking: _Asking[T], task: asyncio.Task[T]) -> None:
        """Count a refresh that has failed. Its answer is not used beyond its life: the next caller asks and is told."""
        if asking.behind and not task.cancelled():
            self._counters.failures[f"{self._name}_refresh"] += 1
        kept = self._kept.get(group, {}).get(key)
        if kept is not None and asyncio.get_running_loop().time() >= kept.end:
            self._forget(group, key)

    def _keep(self, group: Hashable, key: Hashable, answer: Answer[T]) -> None:
        weight, before = self._weigh(answer.value), self._kept.get(group, {}).get(key)
        self._forget(group, key)
        if self._life <= 0 or weight > self._max_weight:
            return
        while self._weight + weight > self._max_weight:  # the groups are in the order of their first answers
            oldest = next(iter(self._kept))
            self._forget(oldest, next(iter(self._kept[oldest])))
        loop = asyncio.get_running_loop()
        end = loop.time() + self._life
        kept = _Kept(answer, weight, end, end - self._ahead, None if before is None else before.question)
        kept.timers.append(loop.call_at(end, self._end, group, key, context=Context()))
        if self._ahead:  # in a context of its own: the refresh is not part of the request that asked first
            kept.timers.append(loop.call_at(kept.due, self._fall_due, group, key, context=Context()))
        self._kept.setdefault(group, {})[key] = kept
        self._weight += weight

    def _end(self, group: Hashable, key: Hashable) -> None:
        """Forget an answer at the end of its life, or, while it is asked for anew, when it has been used for two."""
        kept = self._kept[group][key]
        asking = self._asking.get(group, {}).get(key)
        if asking is None or not asking.behind:
            self._forget(group, key)
            return
        timer = asyncio.get_running_loop().call_later(self._life, self._forget, group, key, context=Context())
        kept.timers.append(timer)

    def _forget(self, group: Hashable, key: Hashable) -> None:
        answers = self._kept.get(group, {})
        kept = answers.pop(key, None)
        if kept is None:
            return
        for timer in kept.timers:
            timer.cancel()
        self._weight -= kept.weight
        if not answers:
            del self._kept[group]


@dataclass(slots=True)
class _Kept(Generic[T]):
    """An answer that is kept until `end` and asked for anew from `due` on, both by the clock of the event loop."""

    answer: Answer[T]
    weight: int
    end: float
    due: float
    earlier: Question[T] | None  # of the last one who has used the answer before this one
    question: Question[T] | None = None  # of the last one who has used this answer
    is_due: bool = False
    refreshed: bool = False
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    @property
    def asked_by(self) -> Question[T] | None:
        """The question by which it is asked for anew along with others: who polls once in a life may not have yet."""
        return self.question or self.earlier


class _Abandoned(Exception):
    """The question was cancelled because nobody waited for it any longer."""


class _Asking(Generic[T]):
    """A question in flight, in a task of its own. It is cancelled when nobody waits for it any longer.

    `behind`: it refreshes an answer, and nobody need wait for it.
    """

    def __init__(self, question: Question[T], deadline: Deadline, *, behind: bool) -> None:
        self.asked = time.monotonic()
        self.deadline = deadline
        self.behind = behind
        self.answer: Answer[T] | None = None
        self.task = asyncio.create_task(question(deadline), context=Context() if behind else None)
        self._waiting = int(behind)

    def release(self) -> None:
        """Cancel a refresh for which nobody waits."""
        if self.behind:
            self._waiting -= 1
            self.behind = False
            if not self._waiting:
                self.task.cancel()

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
