"""The log: one JSON object per line, whatever is logged, and no secrets."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from logging.handlers import BufferingHandler

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.telemetry.log import JsonFormatter, log_to_stream
from flamecrest.server.telemetry.redact import redact
from flamecrest.server.telemetry.trace import ACCESS, BATCH_SECONDS, Trace, current_trace, log_request, phase
from flamecrest.wire.json import dumps

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
    token = current_trace.set(Trace("r1", "c1"))
    try:
        found = line("pool is full", fields={"cluster": "daint", "waiting": 3})
    finally:
        current_trace.reset(token)
    assert found["request_id"] == "r1"
    assert (found["cluster"], found["waiting"], found["level"]) == ("daint", 3, "WARNING")
    assert "request_id" not in line("nobody asked")


def test_time_is_split_into_phases_and_counted_once() -> None:
    trace = Trace("r1", "c1")
    token = current_trace.set(trace)
    try:
        with phase("ssh"), phase("queue"):
            pass
        with phase("ssh"):
            before = trace.phases["ssh"].seconds
            with phase("ssh"):
                pass
            assert trace.phases["ssh"].seconds == before, "side by side counts once"
    finally:
        current_trace.reset(token)
    assert trace.phases["ssh"].running == 0
    assert trace.phases["ssh"].seconds >= trace.phases["queue"].seconds >= 0
    with phase("ssh"):  # nobody's
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
    handler = log_to_stream(stream, "INFO")
    try:
        logging.getLogger("flamecrest.anything").info("hello")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert json.loads(stream.getvalue())["message"] == "hello"


class Writes(io.StringIO):
    """A stream that remembers what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[list[str]] = []
        self.handler = log_to_stream(self, "INFO")

    def write(self, text: str) -> int:
        self.pieces.append([json.loads(line)["message"] for line in text.splitlines()])
        assert text.endswith("\n")
        return len(text)


@pytest.fixture
def written() -> Iterator[Writes]:
    root = logging.getLogger()
    level = root.level
    stream = Writes()
    try:
        yield stream
    finally:
        root.removeHandler(stream.handler)
        root.setLevel(level)


LOG = logging.getLogger("flamecrest.test")


@pytest.mark.anyio
async def test_lines_of_some_milliseconds_are_written_together_in_their_order(written: Writes) -> None:
    for _ in range(2):
        LOG.info("one")
        log_request(Trace("r", "c", status=200), 0.1, "/")
        LOG.info("two")
        assert written.pieces == []
        await asyncio.sleep(BATCH_SECONDS * 2)
        assert written.pieces == [["one", "request", "two"]]
        written.pieces.clear()


@pytest.mark.anyio
async def test_what_is_bad_is_written_at_once_with_what_was_before_it(written: Writes) -> None:
    LOG.info("one")
    LOG.warning("two")
    assert written.pieces == [["one", "two"]]
    log_request(Trace("r", "c", status=500), 0.1, "/")
    assert written.pieces[1:] == [["request"]]


@pytest.mark.anyio
async def test_what_waits_is_written_at_the_end(written: Writes) -> None:
    LOG.info("last words")
    written.handler.flush()
    assert written.pieces == [["last words"]]


def test_without_a_loop_nothing_waits(written: Writes) -> None:
    LOG.info("one")
    asyncio.run(_say("two"))
    LOG.info("three")
    assert written.pieces[0] == ["one"]
    assert [message for piece in written.pieces[1:] for message in piece] == ["two", "three"]


async def _say(message: str) -> None:
    LOG.info(message)


@pytest.mark.anyio
async def test_no_line_of_any_thread_is_lost(written: Writes) -> None:
    def talk(who: int) -> None:
        for number in range(200):
            (LOG.warning if number % 50 == 49 else LOG.info)("%d-%d", who, number)

    async with asyncio.TaskGroup() as group:
        for who in range(4):
            group.create_task(asyncio.to_thread(talk, who))
        for number in range(200):
            LOG.info("4-%d", number)
            await asyncio.sleep(0)
    written.handler.flush()
    said = [message for piece in written.pieces for message in piece]
    for who in range(5):
        assert [message for message in said if message.startswith(f"{who}-")] == [f"{who}-{n}" for n in range(200)]


def test_other_handlers_get_a_record_of_a_request() -> None:
    handler = BufferingHandler(10)
    handler.setLevel(logging.WARNING)
    ACCESS.addHandler(handler)
    try:
        for status in (200, 503):
            log_request(Trace("r", "c", status=status), 0.1, "/")
    finally:
        ACCESS.removeHandler(handler)
    (record,) = handler.buffer
    assert (record.levelname, record.getMessage(), record.fields["status"]) == ("WARNING", "request", 503)  # type: ignore[attr-defined]
