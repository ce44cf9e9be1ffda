"""SFTP answers, as servers send them and as a broken or hostile server might."""

from __future__ import annotations

import asyncio
import gc
import struct
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamecrest.server.errors import Upstream
from flamecrest.server.ssh.channels import sftp_packets as packets
from flamecrest.server.ssh.channels.sftp import Sftp
from flamecrest.server.ssh.channels.sftp_channel import SftpSession
from flamecrest.server.ssh.channels.sftp_packets import Attrs, SftpError

if TYPE_CHECKING:
    from flamecrest.server.ssh.transport import SshTransport


class Quiet:
    """A connection that only counts."""

    stall_timeout = 30.0

    def received(self, size: int) -> None:
        assert size >= 0


u32 = st.one_of(st.none(), st.integers(0, 2**32 - 1))


def status(code: int, message: bytes = b"text") -> bytes:
    return struct.pack(">BII", packets.STATUS, 1, code) + packets.string(message) + packets.string(b"en")


@given(st.one_of(st.none(), st.integers(0, 2**64 - 1)), u32, u32, u32)
def test_attributes_survive_the_wire(size, owner, mode, times):
    attrs = Attrs(size, owner, owner, mode, times, times)
    assert packets.attrs_reply(struct.pack(">BI", packets.ATTRS, 1) + attrs.packed()) == attrs


def test_a_status_is_an_error_with_code_and_message():
    with pytest.raises(SftpError) as caught:
        packets.handle_reply(status(3, b"the reason"))
    assert (caught.value.code, caught.value.message) == (3, "the reason")


def test_the_end_of_a_file_or_a_directory_is_not_an_error():
    assert packets.data_reply(status(packets.EOF)) == b""
    assert packets.names_reply(status(packets.EOF)) == []


def test_a_status_without_a_message_is_accepted():
    with pytest.raises(SftpError):
        packets.attrs_reply(struct.pack(">BII", packets.STATUS, 1, 2))


@given(st.binary(min_size=5, max_size=200))
@pytest.mark.parametrize(
    "read", ["handle_reply", "data_reply", "attrs_reply", "names_reply", "status_reply", "limits_reply"]
)
def test_malformed_answers_are_errors(read, packet):
    with suppress(SftpError, struct.error, IndexError):  # Sftp.answered turns these into errors for the caller
        getattr(packets, read)(packet)


def test_an_absurd_count_of_names_is_malformed():
    with pytest.raises((struct.error, IndexError)):
        packets.names_reply(struct.pack(">BII", packets.NAME, 1, 2**31))


async def collected(cuts: list[int], data: bytes, *, asked_for_data: bool = True) -> list[object]:
    """The results of two requests whose answers arrive cut at these offsets."""
    sftp = Sftp(cast("SshTransport", Quiet()))
    hello = asyncio.get_running_loop().create_future()
    channel = SftpSession(sftp, cast("SshTransport", Quiet()), hello)
    first = sftp.read(b"h", 0, len(data)) if asked_for_data else sftp.stat(b"/")
    second = sftp.readlink(b"/x")
    answers = [
        struct.pack(">BI", packets.VERSION, 3),
        struct.pack(">BI", packets.DATA, 1) + packets.string(data),
        struct.pack(">BIII", packets.STATUS, 2, packets.NO_SUCH_FILE, 0) + packets.string(b""),
    ]
    stream = b"".join(struct.pack(">I", len(answer)) + answer for answer in answers)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in pairwise(edges):
        channel.data_received(stream[start:end], None)
    return list(await asyncio.gather(first, second, return_exceptions=True))


@settings(max_examples=20)
@given(st.lists(st.integers(0, 110_000), max_size=6), st.sampled_from([0, 1, 32_768, 100_000]))
def test_answers_are_whole_however_they_are_cut(cuts, size):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    first, second = asyncio.run(collected(cuts, data))
    assert first == data
    assert isinstance(second, SftpError)


@pytest.mark.parametrize("cuts", [[], [40_000, 70_000]])
def test_data_for_another_request_is_an_error(cuts):
    first, second = asyncio.run(collected(cuts, b"x" * 100_000, asked_for_data=False))
    assert isinstance(first, SftpError | Upstream)
    assert isinstance(second, SftpError)


@pytest.mark.anyio
async def test_an_error_that_nobody_waits_for_is_no_warning():
    """A request can be cancelled in the moment in which its answer arrives."""
    warned: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: warned.append(context))
    sftp = Sftp(cast("SshTransport", Quiet()))
    sftp.stat(b"/none")
    sftp.answered(status(packets.NO_SUCH_FILE))
    gc.collect()
    assert warned == []


@pytest.mark.anyio
async def test_room_for_one_is_given_to_one_in_turn():
    """The channel pauses as soon as somebody has sent: the others go on waiting, and who gives up is passed over."""
    sftp = Sftp(cast("SshTransport", Quiet()))
    sent: list[int] = []

    async def send(number: int) -> None:
        await sftp.room()
        sent.append(number)
        sftp.pause()

    async def settle() -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    sftp.pause()
    tasks = [asyncio.create_task(send(number)) for number in range(5)]
    await settle()
    assert sent == []
    tasks[0].cancel()
    tasks[2].cancel()
    for expected in ([1], [1, 3], [1, 3, 4]):
        sftp.resume()
        await settle()
        assert sent == expected
    await asyncio.wait(tasks)
