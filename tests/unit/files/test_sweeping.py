"""Which entries of a folder were left behind."""

from __future__ import annotations

import stat

import pytest

from flamecrest.server.files.remote.sweeping import AGE, is_due, is_left
from flamecrest.server.ssh.channels.sftp_packets import Attrs, Name

NOW = 1_800_000_000
MINE = Attrs(size=0, uid=1000, gid=1000, mode=stat.S_IFREG | 0o600, atime=NOW, mtime=1000)
OLD = MINE._replace(atime=NOW - AGE - 1, mtime=NOW - AGE - 1)


@pytest.mark.parametrize(
    ("name", "attrs", "expected"),
    [
        (b".flamecrest-upload-0123456789abcdef", OLD, True),
        (b".flamecrest-unpack-0123456789abcdef", OLD, True),
        (b".flamecrest-upload-0123456789abcdef", OLD._replace(uid=1001), False),
        (b".flamecrest-upload-0123456789abcdef", OLD._replace(uid=None), False),
        (b".flamecrest-upload-0123456789abcdef", OLD._replace(mode=stat.S_IFLNK | 0o777), False),
        (b".flamecrest-unpack-0123456789abcdef", OLD._replace(mode=stat.S_IFLNK | 0o777), True),
        (b".flamecrest-unpack-0123456789abcdef", OLD._replace(mode=stat.S_IFLNK | 0o777, atime=NOW), True),  # listed
        (b".flamecrest-unpack-0123456789abcdef", OLD._replace(mode=stat.S_IFLNK | 0o777, mtime=NOW - 60), False),
        (b".flamecrest-unpack-0123456789abcdef", OLD._replace(mode=stat.S_IFLNK | 0o777, uid=1001), False),
        (b".flamecrest-unpack-0123456789abcdef", OLD._replace(mode=stat.S_IFDIR | 0o700), False),
        (b".flamecrest-upload-0123456789abcdef", OLD._replace(mode=stat.S_IFDIR | 0o700), False),
        (b".flamecrest-upload-0123456789abcdef", OLD._replace(atime=NOW - 60), False),  # its mtime was just set
        (b".flamecrest-upload-0123456789abcdef", OLD._replace(mtime=NOW - 60), False),
        (b".flamecrest-upload-0123456789abcdef0123456789abcdef", OLD, False),  # resumable, with a time of its own
        (b".flamecrest-upload-0123456789abcdeg", OLD, False),
        (b".flamecrest-upload-0123456789abcdef\n", OLD, False),
        (b"x.flamecrest-upload-0123456789abcdef", OLD, False),
    ],
)
def test_only_old_temporary_files_of_the_user_are_left(name: bytes, attrs: Attrs, expected: bool) -> None:
    assert is_left(Name(name, b"", attrs), MINE) is expected


def test_a_folder_is_searched_again_after_a_while() -> None:
    swept: dict[bytes, float] = {}
    moments = [0.0, 59.9, 60.0, 60.1, 119.9, 120.0]
    assert [is_due(swept, b"/a", now, 60) for now in moments] == [True, False, True, False, False, True]


def test_few_folders_are_remembered() -> None:
    swept: dict[bytes, float] = {}
    assert [is_due(swept, b"/%d" % number, 0, 60, most=3) for number in range(5)] == [True] * 3 + [False] * 2
    assert is_due(swept, b"/4", 60, 60, most=3)
    assert swept == {b"/4": 60}
