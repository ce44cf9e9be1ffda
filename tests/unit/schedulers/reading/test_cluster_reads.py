"""Nodes and partitions for many users: asked once for all by an account, where nothing is private."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied, GatewayError, Timeout, Unavailable
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.reading.cluster_reads import ClusterReads
from flamecrest.server.schedulers.reading.sharing import PATIENCE, PAUSE, PRIVACY_LIFE, Kind, Privacy

from .virtual_time import now, run


class Site:
    """A cluster with nodes; `private` is its configuration, `faults` what happens to the questions of whom."""

    def __init__(self, *private: Kind, account: bool = True, life: float = 1.0) -> None:
        self.private = frozenset(private)
        self.faults: dict[str, GatewayError] = {}
        self.seconds: Callable[[str], float] = lambda _asker: 0.01
        self.asked: list[str] = []
        self.asked_privacy = 0
        self.noted: list[str] = []
        self.counters = SchedulerCounters()
        self.account = account
        privacy = Privacy(self.configuration if account else None, self.counters, self.note, ticks=now)
        self.reads = ClusterReads(self.counters, privacy, life=life, on_failure=self.note, ticks=now)

    def note(self, what: str, _error: GatewayError) -> None:
        self.noted.append(what)

    async def configuration(self, deadline: Deadline) -> frozenset[Kind]:
        self.asked_privacy += 1
        await self.answer("configuration", deadline)
        return self.private

    async def answer(self, asker: str, deadline: Deadline) -> str:
        async with deadline.enforce("The question"):
            await asyncio.sleep(self.seconds(asker))
        if asker in self.faults:
            raise self.faults[asker]
        return f"as {asker} sees it"

    async def nodes(self, user: str, kind: Kind = Kind.NODES, *, personal: bool = False) -> str:
        """The answer to a user, as the adapters ask for it."""
        known = self.reads.known(user, kind, "key", personal=personal or not self.account)
        if known is not None:
            return str(known.value)

        async def ask(asker: str, deadline: Deadline) -> str:
            self.asked.append(asker)
            return await self.answer(asker, deadline)

        async def own(deadline: Deadline) -> str:
            return await ask(user, deadline)

        async def for_all(deadline: Deadline) -> str:
            return await ask("account", deadline)

        shared = None if personal or not self.account else for_all
        return (await self.reads.read(user, kind, "key", own, shared, Deadline.after(30))).value

    async def let_in(self, *users: str) -> None:
        """Each user asks once, so that all are known, and so is what is private; their answers have ended then."""
        for _ in range(2):
            await asyncio.gather(*(self.nodes(user) for user in users))
            await asyncio.sleep(2)
        self.asked.clear()


def test_nodes_are_asked_once_for_all_by_the_account():
    async def main() -> None:
        site = Site()
        for user in ("alice", "bob"):  # each user has to be let in by the cluster once
            assert await site.nodes(user) == f"as {user} sees it"
        assert site.asked == ["alice", "bob"]
        await asyncio.sleep(2)
        found = await asyncio.gather(*(site.nodes(user) for user in ("alice", "bob") * 20))
        assert set(found) == {"as account sees it"}
        saved = site.counters.saved["nodes"]
        assert await site.nodes("bob") == "as account sees it"  # the answer is there
        assert site.counters.saved["nodes"] == saved + 1
        assert site.asked == ["alice", "bob", "account"]
        assert site.asked_privacy == 1

    run(main())


def test_what_a_user_has_read_is_never_given_to_another():
    """A user may change what programs print over the user's own login, and so could forge nodes for all."""

    async def main() -> None:
        for site in (Site(), Site(account=False), Site(Kind.NODES)):
            for _ in range(300):
                for user in ("alice", "mallory"):
                    assert await site.nodes(user) in {f"as {user} sees it", "as account sees it"}
                await asyncio.sleep(0.3)
            assert site.asked_privacy <= 4

    run(main())


def test_without_an_account_each_user_asks_and_shares_with_nobody():
    async def main() -> None:
        site = Site(account=False)
        await site.let_in("alice", "bob")
        found = await asyncio.gather(*(site.nodes(user) for user in ("alice", "bob") * 20))
        assert set(found) == {"as alice sees it", "as bob sees it"}
        assert sorted(site.asked) == ["alice", "bob"]

    run(main())


def test_a_user_whom_the_cluster_refuses_gets_no_answer_of_the_account():
    async def main() -> None:
        site = Site()
        site.faults["mallory"] = Denied("mallory is refused")
        await site.let_in("alice")
        for _ in range(3):
            await site.nodes("alice")
            with pytest.raises(Denied, match="mallory is refused"):
                await site.nodes("mallory")
            await asyncio.sleep(2)
        assert site.noted == []

    run(main())


def test_what_is_private_is_asked_by_each_user():
    async def main() -> None:
        site = Site(Kind.NODES)
        await site.let_in("alice", "bob")
        for user in ("alice", "bob", "alice", "bob"):
            assert await site.nodes(user) == f"as {user} sees it"
        assert site.asked == ["alice", "bob"]

    run(main())


def test_what_becomes_private_is_shared_for_a_minute_at_most():
    async def main() -> None:
        site = Site()
        await site.let_in("alice", "bob")
        assert await site.nodes("bob") == "as account sees it"
        site.private = frozenset({Kind.NODES})
        await asyncio.sleep(PRIVACY_LIFE)
        await site.nodes("alice")  # uses what is known, if it still is
        await asyncio.sleep(2)
        assert await site.nodes("bob") == "as bob sees it"

    run(main())


def test_a_configuration_that_cannot_be_read_keeps_all_private_and_is_asked_again_after_a_pause():
    async def main() -> None:
        site = Site()
        site.faults["configuration"] = Unavailable("down")
        await site.let_in("alice", "bob")
        for _ in range(int(PAUSE / 2) - 3):
            assert await site.nodes("alice") == "as alice sees it"
            await asyncio.sleep(2)
        assert (site.asked_privacy, site.noted) == (1, ["privacy"])
        site.faults.clear()
        await asyncio.sleep(PAUSE)
        await site.let_in("alice")
        assert await site.nodes("alice") == "as account sees it"

    run(main())


def test_what_depends_on_the_user_is_never_shared():
    async def main() -> None:
        site = Site()
        await site.let_in("alice", "bob")
        for user in ("alice", "bob"):
            for _ in range(2):
                assert await site.nodes(user, Kind.PARTITIONS, personal=True) == f"as {user} sees it"
        assert site.asked == ["alice", "bob"]

    run(main())


@pytest.mark.parametrize("error", [Unavailable("no token"), Denied("refused")])
def test_a_failure_of_the_account_is_none_of_the_users(error: GatewayError):
    """Each asks alone at once, and the account is not asked again for a while."""

    async def main() -> None:
        site = Site()
        await site.let_in("alice", "bob")
        site.faults["account"] = error
        for _ in range(3):
            found = await asyncio.gather(*(site.nodes(user) for user in ("alice", "bob")))
            assert found == ["as alice sees it", "as bob sees it"]
            await asyncio.sleep(2)
        assert site.asked.count("account") == 1
        assert site.noted == ["nodes"]
        site.faults.clear()
        await asyncio.sleep(PAUSE)
        assert await site.nodes("bob") == "as account sees it"

    run(main())


def test_an_account_that_hangs_delays_users_by_its_patience_at_most():
    async def main() -> None:
        site = Site()
        await site.let_in("alice", "bob")
        site.seconds = lambda asker: 1000.0 if asker == "account" else 0.01
        began = now()
        assert await site.nodes("alice") == "as alice sees it"
        assert now() - began < PATIENCE + 1
        began = now()
        await asyncio.sleep(2)
        assert await site.nodes("alice") == "as alice sees it"
        assert now() - began < 2.1

    run(main())


def test_a_user_who_is_refused_later_hears_of_it_and_others_do_not():
    async def main() -> None:
        site = Site()
        await site.let_in("alice", "mallory")
        site.faults |= {"mallory": Denied("mallory is refused"), "account": Timeout("slow")}
        answered, refused = await asyncio.gather(
            *(site.nodes(user) for user in ("alice", "mallory")), return_exceptions=True
        )
        assert answered == "as alice sees it"
        assert isinstance(refused, Denied)

    run(main())


def test_an_unexpected_failure_is_no_answer():
    async def main() -> None:
        site = Site()

        async def broken(_: Deadline) -> NoReturn:
            raise RuntimeError("a bug")

        with pytest.raises(RuntimeError):
            await site.reads.read("alice", Kind.NODES, "key", broken, broken, Deadline.after(30))
        assert await site.nodes("alice") == "as alice sees it"

    run(main())


@pytest.mark.parametrize("account", [True, False])
def test_who_polls_nodes_waits_for_no_question(account: bool):
    async def main() -> None:
        site = Site(account=account)
        await site.let_in("alice", "bob")
        waited: list[float] = []
        while now() < 60:
            began = now()
            await site.nodes("alice")
            waited.append(now() - began)
            await asyncio.sleep(0.2)
        assert max(waited[1:]) == 0
        assert set(site.asked) == {"account" if account else "alice"}
        assert len(site.asked) <= 60 / 0.7

    run(main())


def test_nodes_that_nobody_polls_are_asked_for_once():
    async def main() -> None:
        site = Site()
        await site.let_in("alice")
        await site.nodes("alice")
        await asyncio.sleep(60)
        assert site.asked == ["account"]

    run(main())


def test_what_can_no_longer_be_read_is_said_within_two_lives():
    async def main() -> None:
        site = Site(account=False)
        await site.nodes("alice")
        site.faults["alice"] = Unavailable("down")
        began = now()
        with pytest.raises(Unavailable):
            while now() - began < 2:
                await site.nodes("alice")
                await asyncio.sleep(0.2)

    run(main())
