"""JSON bodies: what is decoded is bounded in memory and time, and many of one user delay others by one only."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from flamecrest.server.errors import Invalid
from flamecrest.server.http.core.errors import MAX_ERRORS, validation_failure
from flamecrest.server.http.core.request_body import check_values
from flamecrest.server.http.core.user_requests import UserRequests
from tests.unit.http.world import World

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

MOST = 64
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.sampled_from('a,"[{\\\n'), max_size=4),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=2), inner, max_size=40),
    max_leaves=100,
)


def values(data: Any) -> int:
    match data:
        case list():
            return 1 + sum(map(values, data))
        case dict():
            return 1 + sum(map(values, data.values()))
    return 1


@given(JSON)
def test_more_values_than_the_limit_allows_are_refused(data: Any) -> None:
    try:
        check_values(orjson.dumps(data), MOST)
    except Invalid:
        assert values(data) > MOST / 3  # names, and texts beside their commas, count as well
    else:
        assert values(data) <= MOST + 1


@pytest.mark.parametrize(
    "bomb", [b"[[]" + b",[]" * 100, b"[{" + b"},{" * 100, b'[""' + b',""' * 100, b"[" * 100, b"[1" + b",1" * 100]
)
def test_values_are_counted_before_they_are_decoded(bomb: bytes) -> None:
    with pytest.raises(Invalid, match="more than 64 values"):
        check_values(bomb, MOST)


@pytest.mark.parametrize("text", ["x," * 100, '"{[' * 100, "\\" * 101, '\\",' * 100])
def test_commas_and_brackets_in_a_text_are_not_counted(text: str) -> None:
    check_values(orjson.dumps({"script": text}), MOST)


@pytest.mark.parametrize(
    "data", [b'"' * 999, b"\\" * 999, b'\\"' * 999, b'"' + b"a" * 999, b"}" * 999, b'["' + b"," * 999]
)
def test_what_is_not_json_is_counted_as_well(data: bytes) -> None:
    check_values(data, MOST)


async def test_a_request_with_too_many_values_is_refused(tmp_path: Path) -> None:
    async with World(str(tmp_path)).client() as client:
        bomb = b'{"items":[[]' + b",[]" * 400_000 + b"]}"
        headers = {"content-type": "application/json"}
        response = await client.post("/filesystem/toy/bulk/stat", content=bomb, headers=headers)
        assert (response.status_code, "values and names" in response.text) == (400, True)
        items = [{"path": f"{tmp_path}/{number}", "dereference": True} for number in range(10_000)]
        response = await client.post("/filesystem/toy/bulk/stat", json={"items": items})
        assert (response.status_code, len(response.json()["results"])) == (200, 10_000)


COMPRESSED = gzip.compress(b'{"items": []}', mtime=0)


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [(COMPRESSED, {"content-encoding": "gzip"}, "must be plain JSON"),
     (COMPRESSED, {}, "is not JSON"),
     (b"null", {}, "`body`: Input should be an object"), (b"[]", {}, "`body`: Input should be an object"),
     (b'{"items": [7]}', {}, "Input should be an object"),
     (b'{"path": "/a", "size": 1%s}' % (b"0" * 30), {}, "Input is too large a number")],
)  # fmt: skip
async def test_what_is_wrong_with_a_body_is_said_in_words_of_json(
    tmp_path: Path, body: bytes, headers: dict[str, str], reason: str
) -> None:
    path = "/filesystem/toy/ops/truncate" if b"size" in body else "/filesystem/toy/bulk/stat"
    async with World(str(tmp_path)).client() as client:
        response = await client.post(path, content=body, headers={"content-type": "application/json", **headers})
    assert response.status_code == 400
    assert reason in response.json()["message"], response.text
    assert "dictionary" not in response.text


class Numbers(BaseModel):
    """A message in which many things can be wrong."""

    numbers: list[int]


@pytest.mark.parametrize("count", [1, MAX_ERRORS, MAX_ERRORS + 1])
def test_errors_beyond_a_number_are_only_counted(count: int) -> None:
    with pytest.raises(ValidationError) as caught:
        Numbers.model_validate({"numbers": ["x"] * count})
    failure = validation_failure("body", caught.value)
    assert bool(failure.fields) == (count <= MAX_ERRORS)
    assert failure.fields or failure.public == f"The request is not valid: it has {count} errors"


async def test_turns_of_one_user_let_others_run_in_between() -> None:
    users, order = UserRequests(), list[str]()

    async def work(user: str) -> None:
        scope: dict[str, Any] = {}
        users.begin(user, scope)
        async with users.turn(scope):
            order.append(user)

    async def bystander() -> None:
        while order.count("a") < 5:
            order.append("-")
            await asyncio.sleep(0)

    await asyncio.gather(bystander(), *(work("a") for _ in range(5)), work("b"))
    found = "".join(order)
    assert "aa" not in found
    assert found.index("b") < found.index("a", found.index("a") + 1)  # users do not wait for each other
