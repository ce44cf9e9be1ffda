"""Ranges, conditions and digests as pure functions."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.errors import Invalid
from flamecrest.server.files.values import Stat
from flamecrest.server.http.headers.conditions import (
    Outcome,
    Validators,
    evaluate,
    format_http_date,
    parse_http_date,
    range_applies,
)
from flamecrest.server.http.headers.digests import DigestCheck, compute_digest, digest_field, preferred_digest
from flamecrest.server.http.headers.ranges import ByteRange, MultipartRanges, UnsatisfiableRange, parse_range

NOW = 1_800_000_000.0
OLD = Stat(
    mode=0o100644, uid=1, gid=1, size=10, mtime=1_700_000_000, ino=7, mtime_fraction=123_456_789,
    ctime=1_700_000_000, ctime_fraction=200_000_000,
)  # fmt: skip


# --- ranges


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-", [(0, 10)]),
        ("bytes=3-5", [(3, 6)]),
        ("bytes=9-100", [(9, 10)]),
        ("bytes=-3", [(7, 10)]),
        ("bytes=-99", [(0, 10)]),
        ("BYTES=1-2", [(1, 3)]),
        ("bytes= 1-2 , 4-5 ", [(1, 3), (4, 6)]),
        ("bytes=4-5,1-2", [(4, 6), (1, 3)]),
        ("bytes=1-2,50-60", [(1, 3)]),
        ("bytes=,1-2,,", [(1, 3)]),
        ("bytes=0-" + "9" * 4000, [(0, 10)]),
        ("bytes=" + "0" * 30 + "1-2", [(1, 3)]),
        # what makes no sense is ignored: the whole file
        ("bytes=5-3", []),
        ("bytes=1-2,5-3", []),
        ("bytes=", []),
        ("bytes=-", []),
        ("bytes=a-b", []),
        ("bytes=1", []),
        ("bytes=--1", []),
        ("bytes=1-2-3", []),
        ("bytes=0x1-0x2", []),
        ("bytes=\u0661-\u0662", []),
        ("items=0-1", []),
        ("bytes 0-1", []),
        ("", []),
        ("bytes=" + "9" * 5000 + "-", []),
        # more than there is, in pieces
        ("bytes=0-9,0-9", []),
        ("bytes=" + ",".join(["0-0"] * 65), []),
    ],
)
def test_ranges(header, spans):
    assert [(span.start, span.end) for span in parse_range(header, 10)] == spans


@pytest.mark.parametrize(
    "header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99-,200-300", "bytes=" + "9" * 30 + "-"]
)
def test_ranges_beyond_the_file(header):
    with pytest.raises(UnsatisfiableRange):
        parse_range(header, 10)


@given(st.text(alphabet="bytes=0123456789-, \tx", max_size=40), st.integers(1, 50))
def test_no_range_leaves_the_file(header, size):
    try:
        spans = parse_range("bytes=" + header, size)
    except UnsatisfiableRange:
        return
    assert all(0 <= span.start < span.end <= size for span in spans)
    assert sum(span.size for span in spans) <= size


def test_multipart_body_has_its_declared_length():
    data = b"0123456789"
    spans = [ByteRange(1, 3), ByteRange(9, 10)]
    many = MultipartRanges(spans, len(data), "text/plain")
    body = (
        b"".join(head + data[span.start : span.end] for head, span in zip(many.heads, spans, strict=True)) + many.tail
    )
    assert len(body) == many.size
    assert b"Content-Range: bytes 9-9/10\r\n\r\n9\r\n--" in body


# --- validators


def test_validators_of_a_file():
    tag = Validators.of(OLD, NOW).etag
    assert tag == f'"7-a-{1_700_000_000_123_456_789:x}-{1_700_000_000_200_000_000:x}"'
    # what a user can set is not enough: ctime tells two contents apart
    for other in ({"ino": 8}, {"size": 11}, {"mtime_fraction": 123_457_000}, {"ctime": 1}, {"ctime_fraction": 1}):
        assert Validators.of(OLD._replace(**other), NOW).etag != tag
    assert Validators.of(OLD._replace(atime=5, mode=0, nlink=3), NOW).etag == tag


CHANGED = OLD.ctime + OLD.ctime_fraction / 1e9


@pytest.mark.parametrize(
    ("clock", "exact", "known"),
    [
        (0.0, True, False),  # two changes within a step of the clock have the same ctime
        (0.019, True, False),
        (0.021, True, True),
        (-100, True, False),  # the file server's clock is ahead
        (0.8, False, False),  # whole seconds
        (0.9, False, True),
    ],
)
def test_a_file_that_was_changed_just_now_has_no_tag(clock, exact, known):
    stat = OLD if exact else OLD._replace(ctime_fraction=0)
    at = CHANGED + clock
    assert (Validators.of(stat._replace(clock=int(1e6 * at)), NOW).etag is not None) is known
    # without the cluster's clock, that of the gateway may be ahead
    assert Validators.of(stat, at).etag is None
    assert (Validators.of(stat, at + 1).etag is not None) is known
    assert Validators.of(stat, at, written=True).etag == Validators.of(stat, NOW).etag


@pytest.mark.parametrize(("age", "tag"), [(-9, None), (1.9, None), (2.5, f'W/"a-{1_700_000_000_123_456_789:x}"')])
def test_without_ctime_a_tag_is_weak(age, tag):
    stat = OLD._replace(ino=0, ctime=0, ctime_fraction=0)
    assert Validators.of(stat, OLD.mtime + age).etag == tag


@pytest.mark.parametrize(("age", "date"), [(0.5, 1_699_999_999), (1.5, 1_700_000_000)])
def test_a_date_that_a_later_change_may_share_is_not_sent(age, date):
    stat = OLD._replace(clock=int(1e6 * (OLD.mtime + age)))
    assert Validators.of(stat, NOW).last_modified == format_http_date(date)


def test_future_date_is_not_sent():
    assert Validators.of(OLD._replace(mtime=int(NOW) + 5), NOW).modified is None
    assert Validators.of(OLD._replace(mtime=-5), NOW).modified is None


TAG = Validators.of(OLD, NOW).etag or ""
BEFORE, SAME, AFTER = (format_http_date(OLD.mtime + shift) for shift in (-10, 0, 10))
ON, NOT, FAILED = Outcome.GO_ON, Outcome.NOT_MODIFIED, Outcome.FAILED


@pytest.mark.parametrize(
    ("headers", "reading", "writing", "missing"),
    [
        ({}, ON, ON, ON),
        ({"if-match": TAG}, ON, ON, FAILED),
        ({"if-match": "*"}, ON, ON, FAILED),
        ({"if-match": f'"x", "y,z", {TAG}'}, ON, ON, FAILED),
        # empty elements of a list are ignored
        ({"if-match": f" , ,{TAG}"}, ON, ON, FAILED),
        ({"if-match": f",{TAG},"}, ON, ON, FAILED),
        ({"if-match": f'"x",\t,{TAG} , '}, ON, ON, FAILED),
        ({"if-match": ", *"}, ON, ON, FAILED),
        ({"if-match": ", ,"}, FAILED, FAILED, FAILED),
        ({"if-none-match": f", ,W/{TAG}"}, NOT, FAILED, ON),
        ({"if-none-match": " ,*"}, NOT, FAILED, ON),
        ({"if-none-match": ", ,"}, ON, ON, ON),
        ({"if-match": '"*"'}, FAILED, FAILED, FAILED),
        ({"if-none-match": '"*"'}, ON, ON, ON),
        ({"if-match": "W/" + TAG}, FAILED, FAILED, FAILED),
        ({"if-match": '"x"'}, FAILED, FAILED, FAILED),
        ({"if-match": ""}, FAILED, FAILED, FAILED),
        ({"if-match": TAG.strip('"')}, FAILED, FAILED, FAILED),
        ({"if-none-match": TAG}, NOT, FAILED, ON),
        ({"if-none-match": "W/" + TAG}, NOT, FAILED, ON),
        ({"if-none-match": "*"}, NOT, FAILED, ON),
        ({"if-none-match": '"x"'}, ON, ON, ON),
        ({"if-modified-since": SAME}, NOT, ON, ON),
        ({"if-modified-since": AFTER}, NOT, ON, ON),
        ({"if-modified-since": BEFORE}, ON, ON, ON),
        ({"if-modified-since": "yesterday"}, ON, ON, ON),
        ({"if-unmodified-since": BEFORE}, FAILED, FAILED, FAILED),
        ({"if-unmodified-since": SAME}, ON, ON, FAILED),
        ({"if-unmodified-since": "never"}, ON, ON, ON),
        # the tag counts, not the date beside it
        ({"if-none-match": '"x"', "if-modified-since": AFTER}, ON, ON, ON),
        ({"if-match": TAG, "if-unmodified-since": BEFORE}, ON, ON, FAILED),
        ({"if-match": TAG, "if-none-match": TAG}, NOT, FAILED, FAILED),
    ],
)
def test_conditions(headers, reading, writing, missing):
    found = Validators.of(OLD, NOW)
    assert evaluate(headers, found, reading=True) is reading
    assert evaluate(headers, found, reading=False) is writing
    assert evaluate(headers, None, reading=False) is missing


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        (TAG, True),
        ("W/" + TAG, False),
        ('"x"', False),
        (SAME, True),
        (BEFORE, False),
        (AFTER, False),
        ("?", False),
        ("", False),
    ],
)
def test_if_range(condition, applies):
    assert range_applies({"if-range": condition}, Validators.of(OLD, NOW)) is applies


def test_if_range_ignores_a_date_that_is_recent_or_may_have_been_set():
    assert not range_applies({"if-range": SAME}, Validators.of(OLD, OLD.mtime + 1.0))
    assert not range_applies({"if-range": SAME}, Validators.of(OLD._replace(ctime=OLD.mtime + 5), NOW))


@pytest.mark.parametrize(("age", "proven"), [(0.0, False), (0.9, False), (1.2, True)])
def test_the_date_of_a_recent_modification_proves_nothing(age, proven):
    found = Validators.of(OLD._replace(clock=int(1e6 * (OLD.mtime + age))), NOW)
    for date in (SAME, AFTER):
        assert (evaluate({"if-modified-since": date}, found, reading=True) is NOT) is proven
        for reading in (True, False):
            assert (evaluate({"if-unmodified-since": date}, found, reading=reading) is ON) is proven


@given(st.integers(0, 4102444800))
def test_dates_are_read_as_they_are_written(seconds):
    assert parse_http_date(format_http_date(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Sun, 06 Nov 1994 08:49:37 +0100", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("1994-11-06T08:49:37Z", None),
        ("784111777", None),
        ("", None),
    ],
)  # fmt: skip
def test_dates_in_all_three_forms(text, seconds):
    assert parse_http_date(text) == seconds


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_header_gives_a_decision(one, other):
    found = Validators.of(OLD, NOW)
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
        evaluate({name: one}, found, reading=True)
    range_applies({"if-range": one}, found)
    preferred_digest(f"{one}={other}")
    with pytest.raises(Invalid):
        DigestCheck({"content-digest": one + "!" + other})


# --- digests


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("sha-256=1", "sha-256"),
        ("sha-256=1, sha-512=3", "sha-512"),
        ("sha-512=3,sha-256=10", "sha-256"),
        ("md5=10, sha-256=1", "sha-256"),
        ("md5=10", None),
        ("sha-256=0", None),
        ("sha-256=11", None),
        ("sha-256", None),
        ("SHA-256=1", None),
        ("sha-256=x", None),
        ("", None),
        (None, None),
    ],
)
def test_preferred_digest(header, name):
    assert preferred_digest(header) == name


def test_matching_digest():
    value = (
        digest_field("sha-256", compute_digest("sha-256", b"data"))
        + ", "
        + digest_field("sha-512", compute_digest("sha-512", b"data"))
    )
    check = DigestCheck({"content-digest": value, "repr-digest": "unknown=:AAAA:, " + value})
    check.update(b"da")
    check.update(b"ta")
    check.finish()
    check.update(b"!")
    with pytest.raises(Invalid, match="does not match"):
        check.finish()


RIGHT = base64.b64encode(hashlib.sha256(b"data").digest()).decode()


@pytest.mark.parametrize(
    "value",
    [
        "", "sha-256", f"sha-256={RIGHT}", f"sha-256=:{RIGHT}", f"sha-256={RIGHT}:", f"SHA-256=:{RIGHT}:",
        f"sha256=:{RIGHT}:", f"sha-256 =:{RIGHT}:", f"sha-256=::{RIGHT}:", f"sha-256=:{RIGHT[:-1]}:",
        f"sha-256=:{RIGHT[:-4]}:", f"sha-512=:{RIGHT}:", "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:", "sha-256=:!:",
        f"sha-256=:{RIGHT}:, sha-256=:{RIGHT}:", f"sha-256=:{RIGHT}:;", hashlib.sha256(b"data").hexdigest(),
        "sha-256=:" + "A" * 100_000 + ":",
    ],
)  # fmt: skip
@pytest.mark.parametrize("header", ["content-digest", "repr-digest"])
def test_malformed_digests(header, value):
    with pytest.raises(Invalid) as caught:
        DigestCheck({header: value})
    assert [(one.location, one.name) for one in caught.value.fields] == [("header", header)]
