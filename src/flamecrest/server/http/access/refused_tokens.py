"""Answers to requests without a valid token are held back if their address sends many. Knows no token and no user.

Nobody is locked out: a valid token is never asked about its address, which it may share with whoever sends the others.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope

FREE: Final = 100  # refusals of one address in a second that are answered at once, if nothing is configured
HOLD_SECONDS: Final = 1.0  # for which further ones are held back
HELD_BACK: Final = "flamecrest.held_back"  # key of a scope whose response is held back: its connection has no use
_NETWORK: Final = 64  # bits of an IPv6 address that one client has


class RefusedTokens:
    """Counts the refusals of each address within a second.

    free: how many of them are answered at once. seconds: for which the others are held back. clock: in seconds.
    """

    def __init__(
        self, free: int = FREE, *, seconds: float = HOLD_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._free = free
        self._seconds = seconds
        self._clock = clock
        self._second = 0
        self._counts: Counter[str] = Counter()  # by address, in this second: no more than there are requests in it

    async def hold(self, scope: Scope) -> None:
        """Return when a refusal may be sent to the client of the request."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._counts = second, Counter()
        client = scope.get("client")
        address = network_of(client[0]) if client else ""
        self._counts[address] += 1
        if self._counts[address] <= self._free:
            return
        scope[HELD_BACK] = True
        try:
            await asyncio.sleep(self._seconds)
        finally:
            del scope[HELD_BACK]

    def __repr__(self) -> str:
        return f"<RefusedTokens of {len(self._counts)} addresses, {sum(self._counts.values())} in this second>"


def network_of(address: str) -> str:
    """What the addresses of one client have in common: of IPv6 the first 64 bits. A text that is no address stays."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _NETWORK), strict=False))
