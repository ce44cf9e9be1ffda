"""SFTP answers as they come and as a broken or hostile server might send them."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.errors import Denied, NotFound, Unsupported, Upstream
from flamecrest.server.ssh import sftp_packets as packets
from flamecrest.server.ssh.sftp_packets import Attrs, SftpError

u32 = st.one_of(st.none(), st.integers(0, 2**32 - 1))


def status(code: int, message: bytes = b"text") -> bytes:
    return struct.pack(">BII", packets.STATUS, 1, code) + packets.string(message) + packets.string(b"en")


@given(st.one_of(st.none(), st.integers(0, 2**64 - 1)), u32, u32, u32)
def test_attributes_survive_the_wire(size, owner, mode, times):
    attrs = Attrs(size, owner, owner, mode, times, times)
    assert packets.attrs_reply(struct.pack(">BI", packets.ATTRS, 1) + attrs.packed()) == attrs


@pytest.mark.parametrize(
    ("code", "kind"), [(2, NotFound), (3, Denied), (4, Upstream), (8, Unsupported), (5, Upstream), (4711, Upstream)]
)
def test_a_status_has_a_kind(code, kind):
    with pytest.raises(SftpError) as caught:
        packets.handle_reply(status(code))
    explained = caught.value.explained("stat: '/x'")
    assert type(explained) is kind
    assert explained.public.startswith("stat: '/x': ")


def test_the_end_of_a_file_and_of_a_folder_is_no_error():
    assert packets.data_reply(status(packets.EOF)) == b""
    assert packets.names_reply(status(packets.EOF)) == []


def test_a_server_may_leave_the_message_out():
    with pytest.raises(SftpError):
        packets.attrs_reply(struct.pack(">BII", packets.STATUS, 1, 2))


@given(st.binary(min_size=5, max_size=200))
@pytest.mark.parametrize(
    "read", ["handle_reply", "data_reply", "attrs_reply", "names_reply", "status_reply", "limits_reply"]
)
def test_garbage_is_told_apart_from_answers(read, packet):
    with suppress(SftpError, struct.error, IndexError):  # what Sftp.answered turns into an error for the caller
        getattr(packets, read)(packet)


def test_an_absurd_count_of_names_is_malformed():
    with pytest.raises((struct.error, IndexError)):
        packets.names_reply(struct.pack(">BII", packets.NAME, 1, 2**31))
