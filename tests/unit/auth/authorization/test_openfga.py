"""OpenFGA's answers, good and bad: only a plain `true` allows, and what the server does not say is unavailable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from flamecrest.server.auth.authorization.by_rules import RulesAuthorizer
from flamecrest.server.auth.authorization.composed import AllOf, AnyOf, ReportOnly
from flamecrest.server.auth.authorization.openfga import FIRECREST, ContextualTuple, OpenFgaAuthorizer, OpenFgaModel
from flamecrest.server.auth.authorization.openfga_api import SingleAddressApi, StoreApi
from flamecrest.server.auth.authorization.rules import Effect, Rule
from flamecrest.server.auth.port import AccessRequest, Decision, Identity, Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unavailable

pytestmark = pytest.mark.anyio

Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]
RELATIONS = {Verb.FILES_WRITE: "can_write", Verb.FILES_READ: "can_read"}


class Store:
    """A small HTTP server that answers as OpenFGA does. `answer` may replace what it says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.allowed = {("user:alice", "can_access", "system:daint")}
        self.answer: Answer | None = None
        self.drop = 0  # connections to be closed without an answer
        self.slow = False
        self.serving: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self.serving.add(task)
        try:
            if self.slow:
                await reader.read()
                return
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
                body = json.loads(await reader.readexactly(int(fields["content-length"])))
                what = lines[0].split(" ")[1].rpartition("/")[2]
                if self.drop:
                    self.drop -= 1
                    break
                self.asked.append((what, body, fields.get("authorization", "")))
                status, found = (self.answer or self.usual)(what, body)
                data = found if isinstance(found, bytes) else json.dumps(found).encode()
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(data), data))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def usual(self, what: str, body: dict[str, Any]) -> tuple[int, Any]:
        if "tuple_key" not in body and "checks" not in body:  # FirecREST's address
            return 200, {"allowed": (body["user"], body["relation"], body["object"]) in self.allowed}
        if what == "check":
            return 200, {"allowed": self._is_allowed(body), "resolution": ""}
        results = {one["correlation_id"]: {"allowed": self._is_allowed(one)} for one in body["checks"]}
        return 200, {"result": results}

    def _is_allowed(self, check: dict[str, Any]) -> bool:
        key = check["tuple_key"]
        return (key["user"], key["relation"], key["object"]) in self.allowed


@asynccontextmanager
async def asking(
    store: Store,
    model: OpenFgaModel | None = None,
    *,
    path: str = "/stores/1",
    api: Mapping[str, Any] = {},
    **options: Any,
) -> AsyncIterator[OpenFgaAuthorizer]:
    """An authorizer that asks the server; `api` are options of StoreApi. Without `/stores/` it asks as FirecREST."""
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"
    async with httpx.AsyncClient(verify=False) as http:
        way = StoreApi(url, http, **api) if "/stores/" in path else SingleAddressApi(url, http)
        yield OpenFgaAuthorizer(way, model or OpenFgaModel(), **{"timeout": 20.0, **options})
    server.close()
    await server.wait_closed()
    await asyncio.gather(*store.serving)


def request(verb: Verb = Verb.STATUS, cluster: str = "daint", identity: Identity | None = None) -> AccessRequest:
    sources = ("/x",) if verb is Verb.FILES_WRITE else ()
    return AccessRequest(identity or Identity("alice", token="secret"), verb, cluster, sources=sources)


def soon() -> Deadline:
    return Deadline.after(60)


async def test_the_answer_decides() -> None:
    store = Store()
    async with asking(store) as authorizer:
        assert (await authorizer.decide(request(), soon())).allowed
        denied = await authorizer.decide(request(cluster="alps"), soon())
    reason = "user:alice has no relation can_access to system:alps"
    assert denied == Decision(allowed=False, rule="openfga:can_access", reason=reason)
    what, body, authorization = store.asked[0]
    assert (what, body["tuple_key"]) == (
        "check", {"user": "user:alice", "relation": "can_access", "object": "system:daint"}
    )  # fmt: skip
    assert (body["consistency"], authorization) == ("MINIMIZE_LATENCY", "Bearer secret")
    assert "authorization_model_id" not in body


async def test_several_relations_are_one_batch() -> None:
    store = Store()
    store.allowed = {("user:alice", "can_write", "system:daint")}
    async with asking(store, model=OpenFgaModel(relations=RELATIONS)) as authorizer:
        denied = await authorizer.decide(request(Verb.FILES_WRITE), soon())
        store.allowed |= {("user:alice", "can_read", "system:alps"), ("user:alice", "can_write", "system:alps")}
        allowed = await authorizer.decide(request(Verb.FILES_WRITE, "alps"), soon())
    assert (denied.allowed, denied.rule, allowed.allowed) == (False, "openfga:can_read", True)
    assert [what for what, _, _ in store.asked] == ["batch-check", "batch-check"]


async def test_options_and_contextual_tuples_are_sent() -> None:
    tuples = [ContextualTuple("groups", "member", "group:{value}"), ContextualTuple("a.b", "x", "y:{value}")]
    model = OpenFgaModel("user:{subject}", "cluster:{cluster}", "use", {}, tuples)
    claims = {"groups": ["hpc", "a b", "x:y", "/chem", "*", "#", ""], "a": {"b": 1}}
    identity = Identity("alice", subject="4f-1", claims=claims, token="secret")
    store = Store()
    api = {"model": "01M", "consistency": "HIGHER_CONSISTENCY"}
    async with asking(store, model, api=api, token="api") as authorizer:
        await authorizer.decide(request(identity=identity), soon())
    ((_, body, authorization),) = store.asked
    assert body["tuple_key"] == {"user": "user:4f-1", "relation": "use", "object": "cluster:daint"}
    stated = [(one["user"], one["relation"], one["object"]) for one in body["contextual_tuples"]["tuple_keys"]]
    assert stated == [
        ("user:4f-1", "member", "group:/chem"), ("user:4f-1", "member", "group:hpc"), ("user:4f-1", "x", "y:1"),
    ]  # fmt: skip
    assert (body["authorization_model_id"], body["consistency"]) == ("01M", "HIGHER_CONSISTENCY")
    assert authorization == "Bearer api"


@pytest.mark.parametrize("subject", ["", "a:b", "a b", "*", "a#b", "x" * 201])
async def test_a_subject_that_is_no_id_is_not_sent(subject: str) -> None:
    store = Store()
    async with asking(store, model=OpenFgaModel(user="user:{subject}")) as authorizer:
        with pytest.raises(Unavailable):
            await authorizer.decide(request(identity=Identity("alice", subject=subject)), soon())
    assert store.asked == []


async def test_the_token_of_the_caller_can_be_kept_back() -> None:
    store = Store()
    async with asking(store, send_token=False) as authorizer:
        await authorizer.decide(request(), soon())
    assert store.asked[0][2] == ""


async def test_answers_are_kept_for_a_while() -> None:
    store, now = Store(), 0.0
    async with asking(store, cache_seconds=10.0, monotonic=lambda: now) as authorizer:
        for _ in range(3):
            assert (await authorizer.decide(request(), soon())).allowed
            assert not (await authorizer.decide(request(cluster="alps"), soon())).allowed
        assert len(store.asked) == 2
        store.allowed.clear()
        now = 9.9
        assert (await authorizer.decide(request(), soon())).allowed
        now = 10.0
        assert not (await authorizer.decide(request(), soon())).allowed
        other = Identity("bob", token="other")
        assert not (await authorizer.decide(request(identity=other), soon())).allowed
        assert authorizer.stats().requests == len(store.asked) == 4
    async with asking(store, cache_seconds=0.0) as authorizer:
        for _ in range(2):
            await authorizer.decide(request(), soon())
    assert len(store.asked) == 6


async def test_other_claims_are_another_question() -> None:
    store = Store()
    async with asking(store, model=OpenFgaModel(tuples=[ContextualTuple("groups", "member", "g:{value}")])) as it:
        for groups in (["a"], ["b"], ["a"]):
            await it.decide(request(identity=Identity("alice", claims={"groups": groups})), soon())
    assert len(store.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"allowed": "true"}),
        (200, {"allowed": 1}),
        (200, {"allowed": None, "error": {}}),
        (200, {"other": True}),
        (200, []),
        (200, b"<html>"),
        (200, b""),
        (200, b'{"allowed": true' + b" " * (1024 * 1024) + b"}"),
        (204, b""),
        (302, {"allowed": True}),
        (400, {"code": "validation_error", "message": "relation 'system#x' not found"}),
        (401, {"code": "unauthenticated", "allowed": True}),
        (429, {}),
        (500, {"allowed": True}),
        (503, b"\xff"),
    ],
)
async def test_a_bad_answer_is_unavailable_and_not_kept(answer: tuple[int, Any]) -> None:
    store = Store()
    store.answer = lambda *_: answer
    async with asking(store) as authorizer:
        with pytest.raises(Unavailable) as caught:
            await authorizer.decide(request(), soon())
        assert caught.value.public == "Authorization is not available at the moment"
        assert "secret" not in f"{caught.value.detail}"
        store.answer = None
        assert (await authorizer.decide(request(), soon())).allowed


@pytest.mark.parametrize(
    "result", [{"error": {"input_error": "validation_error"}}, {"allowed": True, "error": {}}, {"x": 1}, None, True]
)
async def test_a_bad_result_in_a_batch_is_unavailable(result: Any) -> None:
    store = Store()
    store.answer = lambda *_: (200, {"result": {"0": {"allowed": True}, "1": result}})
    async with asking(store, model=OpenFgaModel(relations=RELATIONS)) as authorizer:
        with pytest.raises(Unavailable):
            await authorizer.decide(request(Verb.FILES_WRITE), soon())


async def test_no_server_and_a_slow_one() -> None:
    async with httpx.AsyncClient(verify=False) as http:
        gone = OpenFgaAuthorizer(StoreApi("http://127.0.0.1:1/stores/1", http), OpenFgaModel())
        with pytest.raises(Unavailable, match="not available"):
            await gone.decide(request(), soon())
    store = Store()
    store.slow = True
    async with asking(store, timeout=0.05) as authorizer:
        with pytest.raises(Unavailable, match="not available"):
            await authorizer.decide(request(), soon())


async def test_a_closed_connection_is_replaced_once() -> None:
    store = Store()
    async with asking(store, cache_seconds=0.0) as authorizer:
        await authorizer.decide(request(), soon())
        store.drop = 1
        assert (await authorizer.decide(request(), soon())).allowed
        store.drop = 2
        with pytest.raises(Unavailable):
            await authorizer.decide(request(), soon())


async def test_clusters_that_a_caller_may_use_are_few_questions() -> None:
    store = Store()
    store.allowed = {("user:alice", "can_read", f"system:c{number}") for number in (3, 70)}
    names = [f"c{number}" for number in range(80)]
    async with asking(store, model=OpenFgaModel(relations=RELATIONS)) as authorizer:
        assert await authorizer.usable(Identity("alice"), names, soon()) == {"c3", "c70"}
        asked = len(store.asked)
        assert await authorizer.usable(Identity("alice"), names, soon()) == {"c3", "c70"}
    assert asked == len(store.asked) == 5  # 3 relations of 80 clusters, 50 at once


@pytest.mark.parametrize(
    ("user", "verb", "all_of", "any_of"),
    [
        ("alice", Verb.STATUS, False, True),
        ("staff", Verb.STATUS, False, True),
        ("bob", Verb.STATUS, False, False),
        ("both", Verb.STATUS, True, True),
        ("both", Verb.TRANSFER, False, False),
        ("alice", Verb.TRANSFER, False, False),
    ],
)
async def test_rules_and_openfga_together(user: str, verb: Verb, all_of: bool, any_of: bool) -> None:
    rules = RulesAuthorizer(
        [Rule("staff", users=["staff", "both"]), Rule("no", effect=Effect.DENY, verbs=["transfer"])]
    )
    store = Store()
    store.allowed = {(f"user:{name}", "can_access", "system:daint") for name in ("alice", "both")}
    asked = request(verb, identity=Identity(user))
    async with asking(store) as openfga:
        assert (await AllOf([rules, openfga]).decide(asked, soon())).allowed is all_of
        assert (await AnyOf([rules, openfga]).decide(asked, soon())).allowed is any_of


async def test_together_they_show_what_both_or_one_show() -> None:
    store = Store()
    rules = RulesAuthorizer([Rule("alps", clusters=["alps"])])
    async with asking(store) as openfga:
        names = ["daint", "alps", "x"]
        assert await AllOf([rules, openfga]).usable(Identity("alice"), names, soon()) == frozenset()
        assert await AnyOf([rules, openfga]).usable(Identity("alice"), names, soon()) == {"daint", "alps"}


async def test_report_allows_when_the_server_is_down(caplog: pytest.LogCaptureFixture) -> None:
    async with httpx.AsyncClient(verify=False) as http:
        report = ReportOnly(OpenFgaAuthorizer(StoreApi("http://127.0.0.1:1/stores/1", http), OpenFgaModel()))
        assert (await report.decide(request(), soon())).allowed
    assert [record.message for record in caplog.records] == ["would be denied"]


async def test_an_address_without_a_store_is_asked_as_firecrest_does() -> None:
    store = Store()
    store.allowed = {("user:alice", "member", "vcluster:daint")}
    async with asking(store, FIRECREST, path="/v1/access/check") as authorizer:
        assert (await authorizer.decide(request(), soon())).allowed
        denied = await authorizer.decide(request(cluster="alps"), soon())
        assert denied.reason == "user:alice has no relation member to vcluster:alps"
        assert await authorizer.usable(Identity("alice", token="t"), ["daint", "alps", "x"], soon()) == {"daint"}
        assert [body["object"] for _, body, _ in store.asked] == ["vcluster:daint", "vcluster:alps", "vcluster:x"]
    what, body, authorization = store.asked[0]
    assert (what, authorization) == ("check", "Bearer secret")
    assert body == {"user": "user:alice", "relation": "member", "object": "vcluster:daint"}


@pytest.mark.parametrize(
    ("answer", "allowed"),
    [
        ((200, {"allowed": False}), False),
        ((200, {}), False),
        ((401, {}), False),
        ((403, b"no"), False),
        ((404, {"allowed": True}), False),
        ((200, b""), None),
        ((200, {"result": "ok"}), None),
        ((204, b""), None),
        ((301, {"allowed": True}), None),
        ((429, {}), None),
        ((500, {"allowed": True}), None),
    ],
)
async def test_answers_of_an_address_of_firecrest(answer: tuple[int, Any], allowed: bool | None) -> None:
    store = Store()
    store.answer = lambda *_: answer
    async with asking(store, FIRECREST, path="/check") as authorizer:
        if allowed is None:
            with pytest.raises(Unavailable):
                await authorizer.decide(request(), soon())
        else:
            assert (await authorizer.decide(request(), soon())).allowed is allowed
