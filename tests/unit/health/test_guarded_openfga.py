"""The breaker in front of OpenFGA, with an API that fails when it is told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flamecrest.server.auth.authorization.openfga_api import Check, unavailable
from flamecrest.server.errors import Unavailable
from flamecrest.server.health.guarded_openfga import POLICY, GuardedApi

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

pytestmark = pytest.mark.anyio


class Api:
    """Allows everything while it is up."""

    def __init__(self) -> None:
        self.up = False
        self.requests = self.failures = 0

    async def ask(self, checks: Sequence[Check], token: str, seconds: float) -> Mapping[Check, bool]:  # noqa: ARG002
        self.requests += 1
        if not self.up:
            self.failures += 1
            raise unavailable("OpenFGA: ConnectError")
        return dict.fromkeys(checks, True)


def check(user: str) -> list[Check]:
    return [Check(f"user:{user}", "can_access", "system:daint", ())]


async def test_it_is_not_asked_while_it_fails_for_several_users():
    api, now = Api(), 0.0
    guarded = GuardedApi(api, lambda: now)
    for user in ("ann", "ann", "ann", "bob", "bob", "cid", "dan"):
        with pytest.raises(Unavailable, match="Authorization is not available"):
            await guarded.ask(check(user), "", 1.0)
    assert (guarded.requests, guarded.failures) == (5, 5)
    api.up = True
    with pytest.raises(Unavailable):
        await guarded.ask(check("ann"), "", 1.0)
    now += POLICY.retry
    for _ in range(2):
        assert await guarded.ask(check("cid"), "", 1.0) == {check("cid")[0]: True}
    assert guarded.requests == 7


async def test_one_user_shuts_nobody_out():
    api = Api()
    guarded = GuardedApi(api, lambda: 0.0)
    for _ in range(9):
        with pytest.raises(Unavailable):
            await guarded.ask(check("ann"), "", 1.0)
    api.up = True
    assert await guarded.ask(check("bob"), "", 1.0)
