"""Parameters: simple queries are read without pydantic with the same result; other locations are refused."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body, Cookie, Depends, File, Form, Header, Query, UploadFile
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, create_model
from starlette.requests import Request

from flamecrest.server.http.core.parameters import QueryPath, SimpleQuery
from flamecrest.server.http.core.route import Call, GatewayRoute, OpenRoute


def twice(text: str, info: Any) -> str:
    return text * 2 if info else text


FIELDS: dict[str, Any] = {
    "path": (QueryPath, ...),
    "show_hidden": (Annotated[bool, Query(alias="showHidden")], False),
    "plain": (str, "x"),
    "number": (int | None, None),
    "short": (Annotated[str, Query(max_length=3)], ""),
    "other": (Annotated[str, AfterValidator(twice)], ""),
    "maybe": (bool | None, None),
}
MODEL = create_model("Query", __config__=ConfigDict(extra="ignore"), **FIELDS)
PLAIN = SimpleQuery(MODEL.model_fields)

TEXTS = st.one_of(
    st.sampled_from(["true", "false", "True", "1", "0", "on", "", "\0", "/a", "a" * 5000, "12"]),
    st.text(st.characters(), max_size=8),
)
NAMES = st.sampled_from(["path", "showHidden", "plain", "number", "short", "other", "maybe"])


@given(st.dictionaries(NAMES, TEXTS))
def test_simple_query_agrees_with_pydantic(given_: dict[str, str]) -> None:
    found = PLAIN.read(given_)
    try:
        expected = MODEL.model_validate(given_).__dict__
    except ValidationError:
        expected = None
    assert found is None or found == expected


def test_simple_query_reads_texts_and_booleans_only() -> None:
    found = PLAIN.read({"path": "/a\udc80", "showHidden": "true", "plain": "é"})
    defaults = {"number": None, "short": "", "other": "", "maybe": None}
    assert found == defaults | {"path": "/a\udc80", "show_hidden": True, "plain": "é"}
    for left in ({}, {"path": "\0"}, {"path": "/", "number": "1"}, {"path": "/", "showHidden": "yes"}):
        assert PLAIN.read(left) is None


class Message(BaseModel):
    """A JSON body."""

    text: str


async def with_header(call: Call, name: Annotated[str | None, Header()] = None) -> None: ...
async def with_old_header(call: Call, name: str | None = Header(None)) -> None: ...
async def with_cookie(call: Call, name: Annotated[str | None, Cookie()] = None) -> None: ...
async def with_form(call: Call, name: Annotated[str, Form()]) -> None: ...
async def with_file(call: Call, name: Annotated[bytes, File()]) -> None: ...
async def with_upload(call: Call, name: UploadFile) -> None: ...
async def with_dependency(call: Call, name: Annotated[str, Depends(twice)]) -> None: ...
async def with_two_bodies(call: Call, body: Message, name: Message) -> None: ...
async def with_text_body(call: Call, name: Annotated[str, Body()]) -> None: ...
async def with_list_body(call: Call, name: list[str]) -> None: ...
async def with_embedded_body(call: Call, name: Annotated[Message, Body(embed=True)]) -> None: ...


async def with_list(call: Call, name: Annotated[list[str] | None, Query()] = None) -> None: ...
async def with_query_model(call: Call, name: Annotated[Message, Query()]) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        with_list,
        with_query_model,
        with_header,
        with_old_header,
        with_cookie,
        with_form,
        with_file,
        with_upload,
        with_dependency,
        with_two_bodies,
        with_text_body,
        with_list_body,
        with_embedded_body,
    ],
)
def test_parameter_that_is_not_read_raises_type_error(handler: Any) -> None:
    router = APIRouter(route_class=GatewayRoute)
    with pytest.raises(TypeError, match=rf"{handler.__name__}: the parameter `name` cannot be read"):
        router.post("/x", response_model=None)(handler)


async def with_all(call: Call, item: str, body: Message, path: QueryPath, limit: int = 1) -> None: ...


def test_parameters_in_path_query_and_body_are_accepted() -> None:
    router = APIRouter(route_class=GatewayRoute)
    router.post("/x/{item}", response_model=None)(with_all)
    assert len(router.routes) == 1


async def without_call(path: QueryPath) -> None: ...
async def with_request(request: Request) -> None: ...
async def with_request_and_text(request: Request, text: str = "") -> None: ...


def test_dependencies_that_never_run_raise_type_error() -> None:
    for route_class, handler in ((GatewayRoute, with_all), (OpenRoute, with_request)):
        router = APIRouter(route_class=route_class, dependencies=[Depends(twice)])
        with pytest.raises(TypeError, match="`dependencies` are never run"):
            router.post("/x/{item}", response_model=None)(handler)


def test_handler_that_cannot_be_called_raises_type_error() -> None:
    with pytest.raises(TypeError, match="`call` of type Call is missing"):
        APIRouter(route_class=GatewayRoute).get("/x", response_model=None)(without_call)
    router = APIRouter(route_class=OpenRoute)
    with pytest.raises(TypeError, match="takes the Request only"):
        router.get("/x", response_model=None)(with_request_and_text)
    router.get("/x", response_model=None)(with_request)
    assert len(router.routes) == 1
