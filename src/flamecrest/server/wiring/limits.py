"""From the settings of limits to what requests are admitted by."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from flamecrest.server.auth.authorization.conditions import Condition, token_variables
from flamecrest.server.auth.port import Verb
from flamecrest.server.limits.values import Allowance, Rate, VerbLimits
from flamecrest.server.settings import Problem, SettingsError, SourceLocation

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.limits.fair_use import FairUse
    from flamecrest.server.settings import AllowanceSettings, LimitsSettings, VerbLimitSettings

HOUR = 3600.0  # seconds


async def make_fair_use(limits: LimitsSettings | None) -> FairUse | None:
    """The limits of users and clients; None if there are none. The caller closes it.

    Raises SettingsError for conditions that cannot be used.
    """
    if limits is None or not (limits.users or limits.clients):
        return None
    from flamecrest.server.limits.buckets import MemoryBuckets  # noqa: PLC0415 -- only if it is configured
    from flamecrest.server.limits.fair_use import FairUse  # noqa: PLC0415

    users, clients = await asyncio.to_thread(allowances, limits)
    if limits.store is None:
        return FairUse(users, clients, MemoryBuckets())
    from flamecrest.server.limits.redis_buckets import RedisBuckets  # noqa: PLC0415 -- 0.2 s for those without a store

    return FairUse(users, clients, RedisBuckets(limits.store.get_secret_value()))


def allowances(limits: LimitsSettings) -> tuple[list[Allowance], list[Allowance]]:
    """The allowances of users and of clients. Raises SettingsError, with all conditions that cannot be used."""
    problems: list[Problem] = []
    found = []
    for kind in ("user", "client"):
        given: tuple[AllowanceSettings, ...] = getattr(limits, f"{kind}s")
        made = []
        for at, one in enumerate(given):
            try:
                made.append(_allowance(f"{kind}{at}", one))
            except (ValueError, RuntimeError) as error:
                problems.append(Problem(SourceLocation("configuration"), f"limits.{kind}s[{at}].when", str(error)))
        found.append(made)
    if problems:
        raise SettingsError(*problems)
    return found[0], found[1]


def _holds(condition: Condition, identity: Identity) -> bool:
    return condition.holds(token_variables(identity)) is True


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
        condition=None if one.when is None else partial(_holds, Condition(one.when, of_token=True)),
    )


def _verb(limits: VerbLimitSettings) -> VerbLimits:
    return VerbLimits(_rate(limits.requests_per_second, limits.burst, 1), limits.in_flight)


def _rate(per_second: float | None, burst: int | None, seconds: float) -> Rate | None:
    """A rate; without a burst the bucket holds what comes in `seconds`."""
    if per_second is None:
        return None
    return Rate(per_second, burst or max(1, round(per_second * seconds)))
