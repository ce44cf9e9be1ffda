"""Token buckets in a store, by throttled-py's GCRA. Knows no user.

GCRA is a token bucket that is stored as one time: https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from throttled.asyncio.rate_limiter import GCRARateLimiter, per_duration
from throttled.asyncio.store import MemoryStore

if TYPE_CHECKING:
    from throttled.asyncio.store import BaseStore

    from .values import Rate

MEMORY_KEYS: Final = 100_000  # buckets in memory
PREFIX: Final = "flamecrest:limits"  # of keys in Redis

_HOUR: Final = 3600  # rates are stored as whole numbers an hour


@dataclass(frozen=True, slots=True)
class Level:
    """A bucket after a request. Times in seconds; `retry_after` is 0 if the tokens were taken."""

    rate: Rate
    remaining: int
    reset_after: float  # until it is full
    retry_after: float = 0.0


class Buckets(Protocol):
    """A set of token buckets, each with a key. A bucket that was never used is full."""

    async def take(self, key: str, rate: Rate, cost: int = 1) -> Level:
        """Take `cost` tokens, or none if there are fewer. With cost 0 nothing changes. Never raises."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class StoredBuckets:
    """Buckets in one store."""

    def __init__(self, store: BaseStore) -> None:
        self._store = store
        self._limiters: dict[Rate, GCRARateLimiter] = {}  # as many as there are rates in the configuration

    async def take(self, key: str, rate: Rate, cost: int = 1) -> Level:
        """See Buckets; raises errors of the store."""
        limiter = self._limiters.get(rate)
        if limiter is None:
            hourly = max(1, round(rate.per_second * _HOUR))
            quota = per_duration(timedelta(seconds=_HOUR), hourly, rate.burst)
            self._limiters[rate] = limiter = GCRARateLimiter(quota, self._store, key_prefix=PREFIX)
        if not cost:
            state = await limiter.peek(key)
            return Level(rate, state.remaining, state.reset_after, state.retry_after)
        result = await limiter.limit(key, cost)
        state = result.state
        return Level(rate, state.remaining, state.reset_after, state.retry_after if result.limited else 0.0)


class MemoryBuckets(StoredBuckets):
    """Buckets of this process."""

    def __init__(self, size: int = MEMORY_KEYS) -> None:
        """`size`: the greatest number of buckets; the one that was used least recently gives way."""
        self._size = size
        self._memory = MemoryStore(options={"MAX_SIZE": size})
        super().__init__(self._memory)

    async def close(self) -> None:
        """Nothing is open."""

    def __repr__(self) -> str:
        return f"<{len(self._memory._backend.get_client())} of {self._size} buckets>"  # noqa: SLF001 -- it shows no number
