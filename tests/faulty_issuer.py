"""The sandbox's issuer with faults on demand, key rotation, and a count of its requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from enum import StrEnum
from typing import Any

from starlette.responses import Response

from flamecrest.sandbox.issuer import Issuer, SigningKey


class Fault(StrEnum):
    """How the issuer fails."""

    NONE = "none"
    ERROR = "error"  # status 500
    HANG = "hang"  # do not respond until the fault is changed
    SLOW = "slow"  # respond after `delay` seconds
    GARBAGE = "garbage"  # status 200 without JSON


class FaultyIssuer(Issuer):
    """An issuer that fails as `fault` says. `fetched` counts the requests for `discovery`, `jwks` and `token`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.delay = 0.05  # seconds
        self.fetched: Counter[str] = Counter()
        self._fault = Fault.NONE
        self._fault_changed = asyncio.Event()
        self._requested = asyncio.Condition()

    @property
    def fault(self) -> Fault:
        """The current fault. A change releases the requests that hang."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        self._fault_changed.set()
        self._fault_changed = asyncio.Event()

    async def stop(self) -> None:
        """Release the requests that hang, and stop."""
        self.fault = Fault.NONE
        await super().stop()

    def rotate(self, algorithm: str | None = None, *, keep: bool = True, kid: str | None = None) -> SigningKey:
        """Sign with a new key from now on. With `keep` the old keys stay published."""
        key = SigningKey.generate(algorithm or self.keys[-1].algorithm, kid)
        self.keys = [*self.keys, key] if keep else [key]
        return key

    async def wait_fetched(self, document: str, count: int) -> None:
        """Return when a document has been requested `count` times since the start."""
        async with self._requested:
            await self._requested.wait_for(lambda: self.fetched[document] >= count)

    async def intercept(self, document: str) -> Response | None:
        self.fetched[document] += 1
        async with self._requested:
            self._requested.notify_all()
        fault = self._fault
        if fault is Fault.SLOW:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.delay):
                    await self._fault_changed.wait()
        if fault is Fault.HANG:
            await self._fault_changed.wait()
        if fault in {Fault.ERROR, Fault.HANG}:
            return Response("out of order", 500)
        return Response("<html>out of order</html>") if fault is Fault.GARBAGE else None
