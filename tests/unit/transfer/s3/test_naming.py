"""Names of buckets and objects, and sizes of parts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.errors import Invalid
from flamecrest.server.transfer.s3.naming import (
    LARGEST_PART,
    LEAST_PART,
    bucket_name,
    content_disposition,
    object_key,
    part_plan,
)

ACCOUNTS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,60}\$?", fullmatch=True)


def test_a_bucket_is_named_after_the_account() -> None:
    assert bucket_name("alice", None, None) == "alice"
    assert bucket_name("alice", "f7t-", "hpc") == "hpc:f7t-alice"


@given(ACCOUNTS)
def test_every_account_has_a_valid_bucket(account: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket_name(account, None, None))


@given(ACCOUNTS, ACCOUNTS)
def test_no_two_accounts_share_a_bucket(one: str, other: str) -> None:
    assert one == other or bucket_name(one, "p-", None) != bucket_name(other, "p-", None)


@pytest.mark.parametrize("account", ["Alice", "a_b", "a..b", "ab", "x" * 80, "-a-"])
def test_an_account_that_cannot_be_a_bucket_gets_a_hash(account: str) -> None:
    assert re.fullmatch(r"([a-z0-9-]+-)?[0-9a-f]{10}", bucket_name(account, None, None))


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_every_path_has_a_key(path: str) -> None:
    key = object_key("transfer-x", path)
    assert re.fullmatch(r"transfer-x/[A-Za-z0-9._+=@-]{1,200}", key)
    assert content_disposition(path).isascii()
    assert content_disposition(path).isprintable()


def test_the_name_of_a_download() -> None:
    assert content_disposition("/a/b c.txt") == 'attachment; filename="b c.txt"'
    assert content_disposition('/a/ü"\n\udcff') == (
        "attachment; filename=\"____\"; filename*=UTF-8''%C3%BC%22%0A%EF%BF%BD"
    )


@pytest.mark.parametrize(
    ("size", "wanted", "part_size", "count"),
    [
        (0, 10**9, 10**9, 1),
        (1, 1, LEAST_PART, 1),
        (LEAST_PART + 1, 1, LEAST_PART, 2),
        (LEAST_PART * 10_000, 1, LEAST_PART, 10_000),
        (LEAST_PART * 10_000 + 1, 1, 6 * 1024**2, 8334),
        (LARGEST_PART * 10_000, 10**12, LARGEST_PART, 10_000),
    ],
)
def test_parts_keep_the_limits_of_s3(size: int, wanted: int, part_size: int, count: int) -> None:
    plan = part_plan(size, wanted)
    assert (plan.part_size, plan.count) == (part_size, count)


def test_a_file_that_is_too_large() -> None:
    with pytest.raises(Invalid, match="at most 53687091200000 bytes"):
        part_plan(LARGEST_PART * 10_000 + 1, 1)
