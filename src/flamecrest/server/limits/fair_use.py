"""Decides whether a request is within the limits of its user and its client. Knows no HTTP and no store.

Numbers in flight are counted here; rates are token buckets. Bytes are charged when a request has ended: a user who has
used more than the bucket held is in debt, and is refused until the bucket has made up for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from flamecrest.server.errors import Busy
from flamecrest.server.telemetry.counters import Sample

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity, Verb

    from .buckets import Buckets, Level
    from .values import Allowance, Rate

FREE_BYTES: Final = 64 * 1024  # of a request that are not counted, so that small requests cost no question
FREE_REFUSALS: Final = 10  # of a user in one second that are answered at once
HOLD_SECONDS: Final = 1.0  # for which further refusals are held back
MAX_DEBTS: Final = 10_000  # debts that are remembered; the one that has not changed for the longest time is forgiven
IN_FLIGHT_RETRY: Final = 1.0  # seconds; when another request ends is not known


@dataclass(frozen=True, slots=True)
class Party:
    """A user or a client, and the allowance that applies."""

    kind: str  # user or client
    name: str
    allowance: Allowance

    def key(self, what: str) -> str:
        """The key of one of its buckets or counts. Different allowances have different ones."""
        return f"{self.allowance.name}:{self.name}:{what}"


@dataclass(frozen=True, slots=True)
class _Question:
    """A token that a request needs. `policy` names the bucket in the response."""

    policy: str
    key: str
    rate: Rate


@dataclass(slots=True)
class Admission:
    """A request, from its identity to its end. `levels` are the buckets that it was charged to, by policy."""

    parties: tuple[Party, ...]
    fair_use: FairUse
    levels: dict[str, Level] = field(default_factory=dict)
    counted: list[str] = field(default_factory=list)  # keys of the numbers in flight

    def end(self, size: int) -> None:
        """End the request, which has sent and received `size` bytes."""
        self.fair_use.end(self, size)


class FairUse:
    """The limits of all users and clients. The first allowance of each list whose claims match a token applies.

    users: limits of each account, whichever tokens it uses. clients: limits of each OAuth 2.0 client.
    """

    def __init__(self, users: Sequence[Allowance], clients: Sequence[Allowance], buckets: Buckets) -> None:
        self._users = users
        self._clients = clients
        self._buckets = buckets
        self._in_flight: Counter[str] = Counter()
        self._debts: OrderedDict[str, int] = OrderedDict()  # bytes not yet charged, by the key of the bucket
        self._second = 0  # in which refusals are counted
        self._refusals: Counter[str] = Counter()  # by user name
        self._charging: set[asyncio.Task[Level]] = set()
        self.refused: Counter[tuple[str, str]] = Counter()  # since the start, by kind of party and by what it exceeded

    def begin(self, identity: Identity) -> Admission:
        """The admission of a request. Whatever follows, the caller ends it with `end`."""
        key = (self, identity.username)  # the account may differ from cluster to cluster
        parties = identity.memo.get(key)
        if parties is None:
            identity.memo[key] = parties = self._parties(identity)
        return Admission(parties, self)

    def _parties(self, identity: Identity) -> tuple[Party, ...]:
        found = [("user", identity.username, _first(self._users, identity))]
        if identity.client:
            found.append(("client", identity.client, _first(self._clients, identity)))
        return tuple(Party(kind, name, one) for kind, name, one in found if one is not None)

    async def admit(self, admission: Admission) -> None:
        """Let a request in. Raises Busy."""
        questions = []
        for party in admission.parties:
            limits = party.allowance
            self._count(admission, party.key("open"), limits.in_flight, "open requests")
            if limits.requests is not None:
                questions.append(_Question(party.kind, party.key("requests"), limits.requests))
        await self._take(admission, questions, "requests")
        for party in admission.parties:
            if party.allowance.bytes is not None:
                await self._refuse_debtor(party.key("bytes"), party.allowance.bytes)

    async def verb(self, admission: Admission, verb: Verb, *, starts: bool) -> None:
        """Count the request for its verb; `starts`: it starts a transfer. Raises Busy."""
        questions = []
        for party in admission.parties:
            limits = party.allowance.verbs.get(verb)
            if limits is not None:
                self._count(admission, party.key(f"{verb}:open"), limits.in_flight, f"open requests ({verb})")
            if limits is not None and limits.requests is not None:
                questions.append(_Question(f"{party.kind}:{verb}", party.key(verb), limits.requests))
            if starts and party.allowance.transfers is not None:
                questions.append(
                    _Question(f"{party.kind}:transfers", party.key("transfers"), party.allowance.transfers)
                )
        await self._take(admission, questions, "transfers" if starts else f"requests ({verb})")

    def end(self, admission: Admission, size: int) -> None:
        """End a request of `size` bytes, sent and received. The bytes are charged in the background."""
        self._release(admission)
        if size <= FREE_BYTES:
            return
        for party in admission.parties:
            rate = party.allowance.bytes
            if rate is not None:
                task = asyncio.get_running_loop().create_task(self._charge(party.key("bytes"), rate, size))
                self._charging.add(task)
                task.add_done_callback(self._charging.discard)

    async def hold(self, admission: Admission) -> None:
        """Wait before a request is refused, if its user has been refused often in this second.

        A client that does not wait by itself would otherwise keep the gateway busy with refusals.
        """
        self._release(admission)
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._refusals = second, Counter()
        user = admission.parties[0].name
        self._refusals[user] += 1
        if self._refusals[user] > FREE_REFUSALS:
            await asyncio.sleep(HOLD_SECONDS)

    def _release(self, admission: Admission) -> None:
        for key in admission.counted:
            self._in_flight[key] -= 1
            if not self._in_flight[key]:
                del self._in_flight[key]
        admission.counted.clear()

    async def close(self) -> None:
        """Charge what has not been charged yet, and close the store."""
        if self._charging:
            await asyncio.wait(self._charging)
        await self._buckets.close()

    def _count(self, admission: Admission, key: str, limit: int | None, what: str) -> None:
        if limit is None:
            return
        if self._in_flight[key] >= limit:
            self._note_refusal(key, what)
            raise Busy(
                f"{limit} {what}, the greatest number allowed. Retry when one has ended.",
                retry_after=IN_FLIGHT_RETRY,
                detail=f"in flight: {key}",
            )
        self._in_flight[key] += 1
        admission.counted.append(key)

    async def _take(self, admission: Admission, questions: Sequence[_Question], what: str) -> None:
        """Take a token from each bucket. The questions to a shared store are made at the same time. Raises Busy."""
        if not questions:
            return
        take = self._buckets.take
        if len(questions) == 1:
            levels = [await take(questions[0].key, questions[0].rate)]
        else:
            levels = await asyncio.gather(*(take(one.key, one.rate) for one in questions))
        for question, level in zip(questions, levels, strict=True):
            admission.levels[question.policy] = level
        worst = max(range(len(levels)), key=lambda at: levels[at].retry_after)
        if levels[worst].retry_after > 0:
            self._refuse(what, questions[worst].key, levels[worst].retry_after)

    async def _refuse_debtor(self, key: str, rate: Rate) -> None:
        """Raise Busy if the bucket of bytes is nearly empty, or does not make up for a debt."""
        level = await self._charge(key, rate, 0)
        missing = self._debts.get(key, 0) + min(FREE_BYTES, rate.burst) - level.remaining
        if missing > 0:
            self._refuse("bytes", key, missing / rate.per_second)

    def _refuse(self, what: str, key: str, seconds: float) -> NoReturn:
        self._note_refusal(key, what)
        raise Busy(f"You have sent too many {what}. Retry later.", retry_after=seconds, detail=f"rate: {key}")

    def _note_refusal(self, key: str, what: str) -> None:
        self.refused["client" if key.startswith("client") else "user", what] += 1

    def samples(self) -> list[Sample]:
        """The refusals since the start, as metrics."""
        return [Sample("flamecrest_limits_refusals_total", of, count) for of, count in self.refused.items()]

    async def _charge(self, key: str, rate: Rate, size: int) -> Level:
        """Take `size` bytes, and those that are owed, as far as the bucket has them."""
        if size:
            self._owe(key, size)
        level = await self._buckets.take(key, rate, 0)
        paid = min(self._debts.get(key, 0), level.remaining)
        if paid:
            self._owe(key, -paid)  # before the question: another request must not pay it again
            level = await self._buckets.take(key, rate, paid)
            if level.retry_after > 0:  # another process was faster
                self._owe(key, paid)
        return level

    def _owe(self, key: str, size: int) -> None:
        owed = self._debts.pop(key, 0) + size
        if owed > 0:
            self._debts[key] = owed
        if len(self._debts) > MAX_DEBTS:
            self._debts.popitem(last=False)

    def __repr__(self) -> str:
        return (
            f"<FairUse {len(self._in_flight)} in flight, {len(self._debts)} debts, {len(self._refusals)} refused now, "
            f"{len(self._charging)} charging, {self._buckets!r}>"
        )


def _first(allowances: Sequence[Allowance], identity: Identity) -> Allowance | None:
    return next((one for one in allowances if one.matches(identity)), None)
