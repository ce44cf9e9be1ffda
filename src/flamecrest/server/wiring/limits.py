"""From the settings of limits to what requests are admitted by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flamecrest.server.auth.port import Verb
from flamecrest.server.limits.values import Allowance, Rate, VerbLimits

if TYPE_CHECKING:
    from flamecrest.server.limits.fair_use import FairUse
    from flamecrest.server.settings import AllowanceSettings, LimitsSettings, VerbLimitSettings

HOUR = 3600.0  # seconds


def make_fair_use(limits: LimitsSettings | None) -> FairUse | None:
    """The limits of users and clients; None if there are none. The caller closes it."""
    if limits is None or not (limits.users or limits.clients):
        return None
    from flamecrest.server.limits.buckets import MemoryBuckets  # noqa: PLC0415 -- only if it is configured
    from flamecrest.server.limits.fair_use import FairUse  # noqa: PLC0415

    users = [_allowance(f"user{at}", one) for at, one in enumerate(limits.users)]
    clients = [_allowance(f"client{at}", one) for at, one in enumerate(limits.clients)]
    if limits.store is None:
        return FairUse(users, clients, MemoryBuckets())
    from flamecrest.server.limits.redis_buckets import RedisBuckets  # noqa: PLC0415 -- 0.2 s for those without a store

    return FairUse(users, clients, RedisBuckets(limits.store.get_secret_value()))


def _allowance(name: str, one: AllowanceSettings) -> Allowance:
    transfers = None if one.transfers_per_hour is None else one.transfers_per_hour / HOUR
    return Allowance(
        name,
        {claim: frozenset(values) for claim, values in one.claims.items()},
        requests=_rate(one.requests_per_second, one.burst, 1),
        in_flight=one.in_flight,
        transfers=_rate(transfers, one.transfers_burst, HOUR),
        bytes=_rate(one.bytes_per_second, one.bytes_burst, HOUR),
        verbs={Verb(verb): _verb(limits) for verb, limits in one.verbs.items()},
    )


def _verb(limits: VerbLimitSettings) -> VerbLimits:
    return VerbLimits(_rate(limits.requests_per_second, limits.burst, 1), limits.in_flight)


def _rate(per_second: float | None, burst: int | None, seconds: float) -> Rate | None:
    """A rate; without a burst the bucket holds what comes in `seconds`."""
    if per_second is None:
        return None
    return Rate(per_second, burst or max(1, round(per_second * seconds)))
