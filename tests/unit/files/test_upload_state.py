"""Ids and state files of resumable uploads: what we write we read, and nothing else passes."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.errors import Conflict, NotFound
from flamecrest.server.files.resumable.state import HEAD_SIZE, UploadKey, UploadState, expired

PATHS = st.binary(min_size=1, max_size=300).map(os.fsdecode)
METADATA = st.text("abcXYZ019+/= ,-", max_size=80)


@given(PATHS, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_an_id_tells_where_the_upload_is(path: str, expires: int, inode: int) -> None:
    nonce = UploadKey.new(path, expires).nonce
    key = UploadKey(path, expires, nonce, inode)
    assert UploadKey.parse(key.text) == key
    assert set(key.text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@given(st.text(max_size=120))
def test_an_id_has_one_spelling(text: str) -> None:
    try:
        key = UploadKey.parse(text)
    except NotFound:
        return
    assert key.text == text


def test_an_id_is_never_made_twice() -> None:
    assert len({UploadKey.new("/f", 1).text for _ in range(1000)}) == 1000


@given(PATHS, st.integers(0, 2**32 - 1))
def test_its_files_lie_beside_the_target_and_say_when_they_expire(path: str, expires: int) -> None:
    target = b"/folder/sub/" + os.fsencode(path).replace(b"/", b"_")
    names = UploadKey.new(path, expires).beside(target)
    for name in (names.data, names.state, names.lock, names.of(UploadState(0, 1, 0, "", part="0" * 16)).data):
        folder, _, last = name.rpartition(b"/")
        assert folder == names.folder == b"/folder/sub"
        kept = name.startswith(names.data) and b"." not in last[1:]  # taken for expired only by its full name
        assert expired(last, expires + 1)
        assert not expired(last, expires)
        assert kept or not expired(last + b"x", expires + 1)


@pytest.mark.parametrize("name", [b"data", b".flamecrest-upload-0123456789abcdef", b".flamecrest-upload-", b"\xff"])
def test_other_files_never_expire(name: bytes) -> None:
    assert not expired(name, 2**40)


@given(st.integers(0, 2**63 - 1), st.none() | st.integers(0, 2**63 - 1), st.integers(0, 0o777), METADATA)
def test_a_state_is_read_as_written(offset: int, length: int | None, mode: int, metadata: str) -> None:
    state = UploadState(offset, length, mode, metadata)
    for one in (state, replace(state, writing=True, part="0123456789abcdef"), replace(state, finished=True)):
        assert UploadState.parse(one.packed()) == one
        assert len(one.head()) == HEAD_SIZE


@given(st.binary(max_size=200))
def test_a_state_that_somebody_made_up_is_refused(data: bytes) -> None:
    with pytest.raises(Conflict):
        UploadState.parse(data)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"[]",
        b"null",
        b'{"mode": 1}',
        b'{"mode": "x", "metadata": ""}',
        b'{"mode": true, "metadata": ""}',
        b'{"mode": 420, "metadata": "a\\r\\nSet-Cookie: x"}',
        b'{"mode": 420, "metadata": "\\u00e9"}',
        b'{"mode": 420, "metadata": "", "part": "/../../f"}',
        b"[" * 60000,
    ],
)
def test_a_state_with_a_good_line_and_a_bad_rest_is_refused(rest: bytes) -> None:
    with pytest.raises(Conflict):
        UploadState.parse(UploadState(0, 1, 0o644, "").head() + rest)
