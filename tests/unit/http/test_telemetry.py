"""The log: one JSON object a line, whatever is in it, and nothing secret."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server import telemetry
from flamecrest.server.telemetry import JsonFormatter, Trace, dumps, redact, write_to

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"


def line(message: object, *args: object, **more: object) -> dict[str, object]:
    record = logging.LogRecord("flamecrest.x", logging.WARNING, "", 0, message, args, None)
    record.__dict__ |= more
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, object] = json.loads(text)
    return found


@given(st.text(st.characters()))
def test_any_text_is_one_line(text: str) -> None:
    said = str(line("%s", text)["message"])
    assert said == redact("".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text))


@given(
    st.recursive(st.one_of(st.integers(), st.floats(), st.binary(), st.text(st.characters())), st.lists, max_leaves=8)
)
def test_anything_is_json(data: object) -> None:
    json.loads(dumps({"x": data}))


def test_fields_and_ids() -> None:
    token = telemetry.current.set(Trace("r1", "c1"))
    try:
        found = line("pool is full", fields={"cluster": "daint", "waiting": 3})
    finally:
        telemetry.current.reset(token)
    assert found["request_id"] == "r1"
    assert (found["cluster"], found["waiting"], found["level"]) == ("daint", 3, "WARNING")
    assert "request_id" not in line("nobody asked")


def test_time_is_split_into_phases_and_counted_once() -> None:
    trace = Trace("r1", "c1")
    token = telemetry.current.set(trace)
    try:
        with telemetry.phase("ssh"), telemetry.phase("queue"):
            pass
        with telemetry.phase("ssh"):
            before = trace.phases["ssh"].seconds
            with telemetry.phase("ssh"):
                pass
            assert trace.phases["ssh"].seconds == before, "side by side counts once"
    finally:
        telemetry.current.reset(token)
    assert trace.phases["ssh"].running == 0
    assert trace.phases["ssh"].seconds >= trace.phases["queue"].seconds >= 0
    with telemetry.phase("ssh"):  # nobody's
        pass


@pytest.mark.parametrize(
    "text",
    [
        f"token {TOKEN} refused",
        f"Authorization: Bearer {TOKEN[3:]}",
        "authorization: bearer hunter2",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2 and no end",
        "https://s3/b/k?X-Amz-Signature=0123abcdef&x=1",
    ],
)
def test_what_looks_like_a_secret_is_not_written(text: str) -> None:
    for part in ("hunter2", "c2lnbmF0dXJl", "0123abcdef"):
        assert part not in redact(text)
        assert part not in json.dumps(line("%s", text))
    assert "[redacted]" in redact(text)


def test_an_exception_is_written_without_secrets() -> None:
    try:
        raise ValueError(f"bad header Bearer {TOKEN}")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    found = json.loads(JsonFormatter().format(record))
    assert "ValueError: bad header" in found["exception"]
    assert "c2lnbmF0dXJl" not in found["exception"]


def test_the_log_goes_where_it_is_sent() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    level = root.level
    handler = write_to(stream, "INFO")
    try:
        logging.getLogger("flamecrest.anything").info("hello")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert json.loads(stream.getvalue())["message"] == "hello"
