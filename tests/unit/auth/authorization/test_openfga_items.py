"""Many questions to OpenFGA: the items of one call share a request; a server without BatchCheck is asked singly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.auth.authorization.by_rules import RulesAuthorizer
from flamecrest.server.auth.authorization.composed import AllOf
from flamecrest.server.auth.authorization.openfga import OpenFgaModel
from flamecrest.server.auth.authorization.rules import Rule
from flamecrest.server.auth.port import AccessRequest, Identity, Verb
from flamecrest.server.errors import Unavailable
from tests.unit.http.test_authorization import Ruled

from .test_openfga import Store, asking, request, soon

pytestmark = pytest.mark.anyio

BOTH = OpenFgaModel(relations={Verb.FILES_READ: "can_read", Verb.FILES_WRITE: "can_write"})


def item(memo: dict[Any, Any], number: int) -> AccessRequest:
    return AccessRequest(Identity("alice"), Verb.FILES_READ, "daint", (f"/home/{number}",), memo=memo)


async def test_the_items_of_a_call_share_one_request() -> None:
    store = Store()
    async with asking(store, cache_seconds=0) as authorizer:
        memo: dict[Any, Any] = {}
        decisions = await asyncio.gather(*(authorizer.decide(item(memo, at), soon()) for at in range(200)))
        assert all(one.allowed for one in decisions)
        assert len(store.asked) == 1
        store.allowed.clear()  # another call asks again
        assert not (await authorizer.decide(item({}, 1), soon())).allowed
        assert len(store.asked) == 2


async def test_without_an_answer_no_item_is_allowed_and_the_server_is_asked_once() -> None:
    store = Store()
    store.answer = lambda *_: (500, {})
    async with asking(store) as authorizer:
        memo: dict[Any, Any] = {}
        decisions = (authorizer.decide(item(memo, at), soon()) for at in range(200))
        found = await asyncio.gather(*decisions, return_exceptions=True)
        assert all(isinstance(one, Unavailable) for one in found)
        assert len(store.asked) == 1
        store.answer = None
        assert (await authorizer.decide(item({}, 1), soon())).allowed


def without_batch(store: Store, status: int, body: Any) -> None:
    def answer(what: str, asked: dict[str, Any]) -> tuple[int, Any]:
        return (status, body) if what == "batch-check" else store.usual(what, asked)

    store.answer = answer


# What OpenFGA before 1.8 says, and what may stand in front of it.
OLD = [(404, {"code": "undefined_endpoint", "message": "Not Found"}), (405, b"no"), (404, b""), (501, {"code": []})]


@pytest.mark.parametrize(("status", "body"), OLD)
async def test_a_server_without_batch_check_is_asked_singly(status: int, body: Any) -> None:
    store, now = Store(), [0.0]
    without_batch(store, status, body)
    store.allowed = {("user:alice", "can_write", "system:daint"), ("user:alice", "can_read", "system:daint")}
    options = {"monotonic": lambda: now[0]}
    async with asking(store, BOTH, api=options, cache_seconds=0) as authorizer:
        assert (await authorizer.decide(request(Verb.FILES_WRITE), soon())).allowed
        assert not (await authorizer.decide(request(Verb.FILES_WRITE, "alps"), soon())).allowed
        assert [what for what, *_ in store.asked] == ["batch-check", "check", "check", "check", "check"]
        clusters = [f"c{number}" for number in range(30)]
        store.allowed.add(("user:alice", "can_access", "system:c29"))
        assert await authorizer.usable(Identity("alice"), clusters, soon()) == {"c29"}
        assert len(store.asked) == 5 + 3 * 30  # three relations of each cluster
        store.answer, now[0] = None, 301.0  # it was updated
        assert (await authorizer.decide(request(Verb.FILES_WRITE), soon())).allowed
        assert store.asked[-1][0] == "batch-check"


async def test_a_check_that_fails_singly_is_no_answer() -> None:
    store = Store()
    store.answer = lambda what, _: (404, {}) if what == "batch-check" else (500, {})
    async with asking(store, BOTH) as authorizer:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await authorizer.decide(request(Verb.FILES_WRITE), soon())


async def test_a_store_that_is_not_there_is_no_old_server() -> None:
    store = Store()
    without_batch(store, 404, {"code": "store_id_not_found"})
    async with asking(store, BOTH) as authorizer:
        with pytest.raises(Unavailable) as failed:
            await authorizer.decide(request(Verb.FILES_WRITE), soon())
    assert "store_id_not_found" in str(failed.value.detail)
    assert [what for what, *_ in store.asked] == ["batch-check"]


@pytest.mark.parametrize("rules", [False, True])
async def test_a_bulk_call_over_http_asks_once(tmp_path: Path, rules: bool) -> None:
    """Also where a rule about paths allows each item before OpenFGA is asked."""
    store = Store()
    store.allowed = {("user:fireuser", "can_access", "system:Toy")}
    names = [f"{tmp_path}/{number}" for number in range(150)]
    for name in names:
        Path(name).touch()
    async with asking(store, cache_seconds=0) as openfga:
        by_path = RulesAuthorizer([Rule("own", paths=[str(tmp_path)], verbs=["files:*"])])
        world = Ruled(str(tmp_path), AllOf([by_path, openfga]) if rules else openfga)
        async with world.client() as client:
            items = [{"path": name} for name in names]
            answer = await client.post("/filesystem/toy/bulk/stat", json={"items": items})
            assert [one["status"] for one in answer.json()["results"]] == [200] * 150
            assert len(store.asked) == 1
            store.allowed.clear()
            answer = await client.post("/filesystem/toy/bulk/stat", json={"items": items})
    assert "output" not in answer.text
