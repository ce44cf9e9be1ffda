"""Key ring: the keys that are trusted now. They are fetched on first use, periodically, and for an unknown key id.

It limits how often the issuer is asked, and knows nothing of tokens except the id of their key.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Self

from flamecrest.server.errors import Unavailable

from .key_sources import Unreadable
from .keys import Key, KeySet, UnusableKey, read_keys
from .single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flamecrest.server.deadline import Deadline

    from .key_sources import KeySource

log = logging.getLogger(__name__)

UNKNOWN_KEY_INTERVAL = 60.0
"""Seconds between two reads of a source that are caused by unknown key ids. After a failed one the pause is shorter."""
_FIRST_RETRY, _MAX_RETRY = 1.0, 30.0  # seconds before a source that has failed is read again


@dataclass(slots=True)
class _SourceState:
    """A source, its last keys, and when it may be read again. Times are those of the monotonic clock."""

    source: KeySource
    keys: tuple[Key, ...] | None = None
    read_at: float = -inf  # the last successful read
    asked: float = -inf  # the last read for an unknown key id
    failures: int = 0
    retry_at: float = -inf
    reason: str = ""

    def may_be_read(self, now: float) -> bool:
        """Whether an unknown key id may cause a read: at a limited rate, or when a failed one may be made again."""
        return now >= (self.retry_at if self.keys is None or self.failures else self.asked + UNKNOWN_KEY_INTERVAL)


class KeyRing:
    """The keys of all sources. Use it as a context manager: leaving it stops the background refresh.

    A source that cannot be read keeps its keys for `max_age` seconds. One that publishes an empty set has none.
    """

    def __init__(
        self,
        sources: Iterable[KeySource],
        *,
        default_algorithm: str | None = None,
        refresh: float,
        max_age: float,
        monotonic: Callable[[], float],
    ) -> None:
        self.keys = KeySet()
        self.generation = 0  # incremented when `keys` changes
        self.fetches = 0  # number of reads of sources
        self._default_algorithm = default_algorithm
        self._refresh = refresh
        self._max_age = max_age
        self._monotonic = monotonic
        self._states = [_SourceState(source) for source in sources]
        self._due: list[_SourceState] = []
        self._flight = SingleFlight(self._fetch)
        self._background: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._background = asyncio.create_task(self.refresh_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._background is not None:
            self._background.cancel()
            await asyncio.wait({self._background})
        await self._flight.close()

    async def renew(self, deadline: Deadline) -> bool:
        """Read the sources because of an unknown key id, except those that were read recently.

        Returns False if that takes longer than the deadline allows.
        """
        now = self._monotonic()
        if not self._flight.running:
            self._due = [state for state in self._states if state.may_be_read(now)]
            for state in self._due:
                state.asked = now if state.keys is not None else state.asked
        if self._flight.running or self._due:
            return await self._flight.join(deadline.left())
        return True

    def has_keys(self) -> bool:
        """Whether there is a key, or no source. Without a key the sources are read in the background."""
        if self.keys.all or not self._states:
            return True
        now = self._monotonic()
        if not self._flight.running:
            self._due = [state for state in self._states if now >= state.retry_at]
            if self._due:
                self._flight.start()
        return False

    async def check(self, deadline: Deadline) -> None:
        """Read the sources now, except those that have failed and wait. Raises Unavailable with what is wrong.

        Keys that were read before are trusted all the same (`max_age`).
        """
        now = self._monotonic()
        if not self._flight.running:
            self._due = [state for state in self._states if now >= state.retry_at]
        if (self._flight.running or self._due) and not await self._flight.join(deadline.left()):
            raise Unavailable("The keys could not be read in time")
        failing = [state for state in self._states if state.failures]
        if failing:
            reasons = dict.fromkeys(state.reason for state in failing)
            raise Unavailable(
                f"The keys cannot be read: {'; '.join(reasons)[:200]}",
                detail="; ".join(f"{state.source.name}: {state.reason}" for state in failing),
            )

    def unavailable(self, *, read: bool) -> Unavailable | None:
        """The error to raise if a key is missing because a source has failed or has not been read yet; else None.

        `read` is what `renew` returned. That the sources are being read again at the moment is no reason.
        """
        failing = [state for state in self._states if state.failures]
        if failing:
            reasons = "; ".join(f"{state.source.name}: {state.reason}" for state in failing)
            return _unavailable(reasons, min(state.retry_at for state in failing) - self._monotonic())
        if not read or any(state.keys is None for state in self._states):
            return _unavailable("no response yet", 1.0)
        return None

    async def refresh_forever(self) -> None:
        """Read all sources periodically; a source that fails keeps its old keys and is read again soon."""
        while True:
            pause = random.uniform(self._refresh / 2, self._refresh)  # noqa: S311 - jitter between replicas
            now = self._monotonic()
            await asyncio.sleep(min([pause, *(state.retry_at - now for state in self._states if state.failures)]))
            now = self._monotonic()
            if not self._flight.running:
                self._due = [state for state in self._states if now >= state.retry_at]
            if self._flight.running or self._due:
                await self._flight.join()

    async def _fetch(self) -> None:
        due, self._due = self._due, []
        await asyncio.gather(*(self._read(state) for state in due))
        for state in self._states:
            self._forget_if_old(state)
        keys = KeySet(key for state in self._states for key in state.keys or ())
        if keys.all != self.keys.all:
            self.keys = keys
            self.generation += 1
            log.info("keys of the token issuer: %d", len(keys.all))

    async def _read(self, state: _SourceState) -> None:
        self.fetches += 1
        try:
            keys, ignored = read_keys(await state.source.read(), self._default_algorithm)
            if not keys and state.keys is None:
                raise UnusableKey("; ".join(ignored)[:500] or "the document has no keys")
        except (Unreadable, UnusableKey) as error:
            self._failed(state, str(error))
        except Exception as error:  # an unexpected error keeps the old keys and does not end the refresh
            log.exception("cannot read the keys at %s", state.source.name)
            self._failed(state, type(error).__name__)
        else:
            if ignored and tuple(keys) != state.keys:
                log.warning("keys at %s that are ignored: %s", state.source.name, "; ".join(ignored)[:500])
            if not keys and state.keys:
                log.warning(
                    "%s publishes no keys any more: all tokens signed by its keys are refused", state.source.name
                )
            state.keys, state.read_at = tuple(keys), self._monotonic()
            state.failures, state.retry_at, state.reason = 0, -inf, ""

    def _forget_if_old(self, state: _SourceState) -> None:
        if state.failures and state.keys is not None and self._monotonic() - state.read_at >= self._max_age:
            state.keys = None
            log.error("the keys at %s were not readable for %.0f s: forgotten", state.source.name, self._max_age)

    def _failed(self, state: _SourceState, reason: str) -> None:
        pause = min(_MAX_RETRY, _FIRST_RETRY * 2**state.failures)
        state.failures = min(state.failures + 1, 10)
        state.retry_at = self._monotonic() + pause
        state.reason = reason
        log.warning("cannot read the keys at %s (next attempt in %.0f s): %s", state.source.name, pause, reason)

    def __repr__(self) -> str:
        states = ", ".join(
            f"{state.source.name}: {'none' if state.keys is None else len(state.keys)}"
            + (f" ({state.reason})" if state.reason else "")
            for state in self._states
        )
        return f"<KeyRing generation {self.generation}, {states}>"


def _unavailable(detail: str, seconds: float) -> Unavailable:
    return Unavailable(
        "The keys of the token issuer are not available at the moment", detail=detail, retry_after=max(1.0, seconds)
    )
