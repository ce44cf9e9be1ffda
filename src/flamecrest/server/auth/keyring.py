"""The keys that are trusted now: fetched when first needed, renewed in the background and for an unknown name.

It decides when the issuer is asked, and how seldom; it knows nothing of tokens but the name of the key they want.
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
from .single_flight import Flight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flamecrest.server.deadline import Deadline

    from .key_sources import KeySource

log = logging.getLogger(__name__)

UNKNOWN_EVERY = 60.0
"""Seconds that must pass before an unknown key's name makes the issuer be asked again."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds before a source that has failed is asked again


@dataclass(slots=True)
class _Feed:
    """A source, what it gave last, and when it may be asked again."""

    source: KeySource
    keys: tuple[Key, ...] | None = None
    asked: float = -inf  # for an unknown name
    failures: int = 0
    retry_at: float = -inf
    reason: str = ""

    def may_be_asked(self, now: float) -> bool:
        """Whether a token may make the source be asked: while it owes us its keys, or once in a while."""
        return now >= (self.retry_at if self.keys is None else max(self.retry_at, self.asked + UNKNOWN_EVERY))


class KeyRing:
    """The keys of all sources. Use it as a context manager: leaving it ends what runs in the background."""

    def __init__(
        self,
        sources: Iterable[KeySource],
        *,
        default_algorithm: str | None = None,
        refresh: float,
        monotonic: Callable[[], float],
    ) -> None:
        self.keys = KeySet()
        self.generation = 0  # grows when `keys` has become another set
        self.fetches = 0  # documents asked for
        self._default_algorithm = default_algorithm
        self._refresh = refresh
        self._monotonic = monotonic
        self._feeds = [_Feed(source) for source in sources]
        self._wanted: list[_Feed] = []
        self._flight = Flight(self._fetch)
        self._background: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._background = asyncio.create_task(self.refresh_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._background is not None:
            self._background.cancel()
            await asyncio.wait({self._background})
        await self._flight.close()

    async def renew(self, deadline: Deadline) -> None:
        """Ask for keys, since one is wanted that is not here, unless that was done a moment ago."""
        now = self._monotonic()
        if not self._flight.under_way:
            self._wanted = [feed for feed in self._feeds if feed.may_be_asked(now)]
            for feed in self._wanted:
                feed.asked = now if feed.keys is not None else feed.asked
        if self._flight.under_way or self._wanted:
            await self._flight.join(deadline.left())

    def excuse(self) -> Unavailable | None:
        """Why a key that should be here may not be: a source that can't be read, or has not answered yet."""
        failing = [feed for feed in self._feeds if feed.failures]
        if failing:
            reasons = "; ".join(f"{feed.source.name}: {feed.reason}" for feed in failing)
            return _unavailable(reasons, min(feed.retry_at for feed in failing) - self._monotonic())
        if self._flight.under_way or any(feed.keys is None for feed in self._feeds):
            return _unavailable("no answer yet", 1.0)
        return None

    async def refresh_forever(self) -> None:
        """Renew the keys again and again; a failure is followed by another try soon, and keeps the old keys."""
        while True:
            pause = random.uniform(self._refresh / 2, self._refresh)  # noqa: S311 - spreads replicas, hides nothing
            now = self._monotonic()
            await asyncio.sleep(min([pause, *(f.retry_at - now for f in self._feeds if f.failures)]))
            now = self._monotonic()
            if not self._flight.under_way:
                self._wanted = [feed for feed in self._feeds if now >= feed.retry_at]
            if self._flight.under_way or self._wanted:
                await self._flight.join()

    async def _fetch(self) -> None:
        wanted, self._wanted = self._wanted, []
        await asyncio.gather(*(self._read(feed) for feed in wanted))
        keys = KeySet(key for feed in self._feeds for key in feed.keys or ())
        if keys.all != self.keys.all:
            self.keys = keys
            self.generation += 1
            log.info("keys of the token issuer: %d", len(keys.all))

    async def _read(self, feed: _Feed) -> None:
        self.fetches += 1
        try:
            keys, ignored = read_keys(await feed.source.read(), self._default_algorithm)
            if not keys:
                raise UnusableKey("; ".join(ignored)[:500] or "there are no keys in it")
        except (Unreadable, UnusableKey) as error:
            self._failed(feed, str(error))
        except Exception as error:  # whatever a source throws, the old keys stay and the loop goes on
            log.exception("reading the keys at %s", feed.source.name)
            self._failed(feed, type(error).__name__)
        else:
            if ignored and tuple(keys) != feed.keys:
                log.warning("keys at %s that are not used: %s", feed.source.name, "; ".join(ignored)[:500])
            feed.keys, feed.failures, feed.retry_at, feed.reason = tuple(keys), 0, -inf, ""

    def _failed(self, feed: _Feed, reason: str) -> None:
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**feed.failures)
        feed.failures = min(feed.failures + 1, 10)
        feed.retry_at = self._monotonic() + pause
        feed.reason = reason
        log.warning("no keys from %s (asked again in %.0f s): %s", feed.source.name, pause, reason)

    def __repr__(self) -> str:
        feeds = ", ".join(
            f"{feed.source.name}: {'none' if feed.keys is None else len(feed.keys)}"
            + (f" ({feed.reason})" if feed.reason else "")
            for feed in self._feeds
        )
        return f"<KeyRing generation {self.generation}, {feeds}>"


def _unavailable(detail: str, seconds: float) -> Unavailable:
    return Unavailable(
        "The keys of the token issuer can't be had at the moment", detail=detail, retry_after=max(1.0, seconds)
    )
