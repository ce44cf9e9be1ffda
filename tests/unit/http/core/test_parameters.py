"""Plain queries are read without pydantic, with the same outcome, or left to it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, ConfigDict, ValidationError, create_model

from flamecrest.server.http.core.call import QueryPath
from flamecrest.server.http.core.parameters import SimpleQuery


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
def test_it_is_as_pydantic_says(given_: dict[str, str]) -> None:
    found = PLAIN.read(given_)
    try:
        expected = MODEL.model_validate(given_).__dict__
    except ValidationError:
        expected = None
    assert found is None or found == expected


def test_what_is_read_without_pydantic() -> None:
    found = PLAIN.read({"path": "/a\udc80", "showHidden": "true", "plain": "é"})
    defaults = {"number": None, "short": "", "other": "", "maybe": None}
    assert found == defaults | {"path": "/a\udc80", "show_hidden": True, "plain": "é"}
    for left in ({}, {"path": "\0"}, {"path": "/", "number": "1"}, {"path": "/", "showHidden": "yes"}):
        assert PLAIN.read(left) is None
