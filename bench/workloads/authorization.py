"""Authentication and authorization by claim rules, in one process: what they add to a request."""

from __future__ import annotations

import time
from collections.abc import Sequence

import httpx

from bench.columns import GATEWAY
from bench.results import Cell
from flamecrest.sandbox.issuer import Issuer
from flamecrest.server.auth.authorization.by_rules import RulesAuthorizer
from flamecrest.server.auth.authorization.rules import Effect, Rule
from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.auth.port import AccessRequest, Verb
from flamecrest.server.deadline import Deadline

from .workload import Bench

CACHED, NEW = "a cached token", "a new token"
RULES = (
    *(Rule(f"group {number}", groups=[f"group-{number}"], clusters=[f"c{number}-*"]) for number in range(20)),
    Rule("own", groups=["hpc"], verbs=["files:*"], paths=["/home/{user}", "/scratch/{user}", "/project/{group}"]),
    Rule("archive", effect=Effect.DENY, verbs=["files:write"], paths=["/archive"]),
)


class Authorization:
    """22 rules, two of them about paths. The issuer signs with RS256."""

    name = "authorization"
    title = "Authentication and authorization by claim rules, in one process"
    rows = "the token"
    needs: Sequence[str] = (GATEWAY,)

    async def run(self, bench: Bench) -> list[Cell]:
        count = bench.runs(200, 2000)
        bench.say(f"{self.name}: {count} decisions about a cached token, and as many about new ones")
        async with Issuer({}) as issuer, httpx.AsyncClient() as http:
            tokens = [issuer.mint("alice", groups=["hpc"], jti=str(number)) for number in range(count)]
            authenticator = OidcAuthenticator(
                ClaimRules(issuer=issuer.url, audience=frozenset({issuer.audience})), http=http
            )
            rules = RulesAuthorizer(RULES)

            async def decided(token: str) -> tuple[float, bool]:
                deadline, since = Deadline.after(60), time.perf_counter()
                identity = await authenticator.authenticate(f"Bearer {token}", deadline)
                request = AccessRequest(identity, Verb.FILES_READ, "daint", ("/scratch/alice/file",))
                allowed = (await rules.decide(request, deadline)).allowed
                return (time.perf_counter() - since) * 1e6, allowed

            async with authenticator:
                await decided(issuer.mint("alice", groups=["hpc"]))  # reads the keys
                new = [await decided(token) for token in tokens]
                cached = [await decided(tokens[-1]) for _ in tokens]
        return [self._cell(CACHED, cached), self._cell(NEW, new)]

    def _cell(self, row: str, found: Sequence[tuple[float, bool]]) -> Cell:
        samples = sorted(microseconds for microseconds, _ in found)
        median = samples[len(samples) // 2]
        return Cell(self.name, GATEWAY, "µs p50", row, (median,), "", sum(not allowed for _, allowed in found))
