"""Token buckets that all replicas share, in Redis or Valkey. Knows no user."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError
from throttled.asyncio.store import RedisStore
from throttled.exceptions import BaseThrottledError

from flamecrest.server.errors import Unavailable

from .buckets import MemoryBuckets, StoredBuckets
from .values import Rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from .buckets import Level

STORE_TIMEOUT: Final = 0.5  # seconds for an answer of the store
RETRY_STORE: Final = 5.0  # seconds after a failure in which the store is not asked

_OPTIONS: Final = {
    "SOCKET_TIMEOUT": STORE_TIMEOUT,
    "SOCKET_CONNECT_TIMEOUT": STORE_TIMEOUT,
    "CONNECTION_POOL_KWARGS": {"driver_info": None},  # else each connection looks for its version on the disk
}

log = logging.getLogger("flamecrest.limits")


class _Redis(RedisStore):
    async def close(self) -> None:
        """Close its connections."""
        await self._backend.get_client().aclose(close_connection_pool=True)  # type: ignore[attr-defined]


def _reason(error: Exception) -> str:
    """What the client of the server says; it names addresses, and no password."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


class RedisBuckets:
    """Buckets that all replicas share, in Redis or Valkey.

    While the server does not answer, each replica counts in its own memory: a limit is then as many times as high as
    there are replicas. The server is asked again every few seconds.
    """

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`url` is `redis://HOST:PORT/DATABASE`, `rediss://…` with TLS, or `unix://PATH`."""
        self._store = _Redis(url, options=_OPTIONS)
        self._shared = StoredBuckets(self._store)
        self._own = MemoryBuckets()
        self._monotonic = monotonic
        self._failed = float("-inf")  # when the server last failed
        self._down = False

    async def take(self, key: str, rate: Rate, cost: int = 1) -> Level:
        """See Buckets."""
        if self._monotonic() - self._failed >= RETRY_STORE:
            try:
                async with asyncio.timeout(STORE_TIMEOUT):
                    level = await self._shared.take(key, rate, cost)
            except (RedisError, BaseThrottledError, OSError) as error:
                self._failed = self._monotonic()
                if not self._down:
                    self._down = True
                    log.warning("the store of limits does not answer: this process counts alone (%s)", _reason(error))
            else:
                if self._down:
                    self._down = False
                    log.warning("the store of limits answers again")
                return level
        return await self._own.take(key, rate, cost)

    async def check(self) -> None:
        """Take from a bucket of its own. Raises Unavailable if the server does not answer, or refuses it."""
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                await self._shared.take("check", Rate(1.0, 1))
        except (RedisError, BaseThrottledError, OSError) as error:
            raise Unavailable("The store of limits does not answer", detail=_reason(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._store.close()
