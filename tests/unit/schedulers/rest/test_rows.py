"""Long answers of slurmrestd are split into jobs as they arrive."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.schedulers.slurm.rest.rows import RowSplitter

from .toy_slurmrestd import VERSIONS, body, recorded, recordings

TEXT = st.text(st.sampled_from('a"\\{}[],: \n\u00e9') | st.characters(codec="utf-8"), max_size=12)
VALUE = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | TEXT,
    lambda inner: (
        st.lists(inner.filter(lambda one: not (isinstance(one, dict) and next(iter(one), "") == "account")), max_size=3)
        | st.dictionaries(TEXT | st.just("account"), inner, max_size=3)
    ),
    max_leaves=6,
)
USER = st.sampled_from(["ann", "bob", ""])
ROW = st.fixed_dictionaries({"account": TEXT, "name": VALUE, "user_name": USER, "z": VALUE})


def split(answer: bytes, size: int, user: str | None = None) -> tuple[list[dict[str, Any]], Any]:
    rows: list[dict[str, Any]] = []
    splitter = RowSplitter(rows.append, user)
    for place in range(0, len(answer), size):
        splitter.feed(answer[place : place + size])
    return rows, splitter.finish()


@given(
    rows=st.lists(ROW, max_size=5),
    indent=st.sampled_from([None, 0, 2]),
    size=st.integers(1, 300),
    escaped=st.booleans(),
)
def test_every_answer_is_split_into_its_jobs(
    rows: list[dict[str, Any]], indent: int | None, size: int, escaped: bool
) -> None:
    document = {"meta": {"account": 1}, "errors": [], "jobs": rows, "warnings": [{"a": 1}]}
    answer = json.dumps(document, indent=indent, ensure_ascii=escaped).encode()
    assert split(answer, size) == (rows, document | {"jobs": []})
    mine = [row for row in rows if row["user_name"] in {"ann", ""}]
    assert split(answer, size, "ann") == (mine, document | {"jobs": []})


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_answers(version: str) -> None:
    names = [name for name in recordings(version) if name in {"job", "job-array", "slurmdb-jobs", "ctld-down-jobs"}]
    assert names
    for name in names:
        whole = body(version, name)
        rows, rest = split(recorded(version, name)[1], 1000)
        assert (rows, rest) == (whole["jobs"], whole | {"jobs": []})


def test_a_name_that_is_no_utf_8_is_replaced() -> None:
    status, answer = recorded("v0.0.42", "job-control-name")
    rows, _ = split(answer, 500)
    assert status == 200
    assert any("\ufffd" in row["name"] for row in rows)
    first_keys_differ = b'{"jobs": [{"name": "\xff", "account": 1}, {"account": 2}, {"x": 3}, {"account": 4}]}'
    for size in (3, 1000):
        assert [len(row) for row in split(first_keys_differ, size)[0]] == [2, 1, 1, 1]


@pytest.mark.parametrize(
    "answer",
    [b"", b"{", b'{"jobs": [', b'{"jobs": [{"a": 1}', b'{"jobs": [{"a": 1},', b'{"jobs": [{"a": 1}x]}', b"[1]x"],
)
def test_what_is_no_json(answer: bytes) -> None:
    for size in (1, 100):
        with pytest.raises(ValueError):
            split(answer, size)


def test_a_name_cannot_hide_or_show_jobs() -> None:
    names = ['}, {"account": "x", "user_name": "bob"', '"user_name": "ann"', "\\", '\\"', ']}, "user_name": "ann']
    rows = [{"account": name, "name": name, "user_name": "ann", "comment": name} for name in names]
    rows += [row | {"user_name": "bob"} for row in rows]
    answer = json.dumps({"jobs": rows}).encode()
    assert split(answer, 11, "bob")[0] == rows[len(names) :]
    assert split(answer, 11, "ann")[0] == rows[: len(names)]
