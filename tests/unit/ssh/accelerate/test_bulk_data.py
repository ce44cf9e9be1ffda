"""Much data over SSH, accelerated and by asyncssh alone: the same bytes in every case."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncssh
import pytest

from tests.unit.ssh.accelerate.bulk_world import Echoed, connected, cutting, sent_and_back

pytestmark = pytest.mark.anyio

CONTENT = random.Random(7).randbytes(3_000_000)  # more than a window
GCM, OTHERS = "aes128-gcm@openssh.com", ("chacha20-poly1305@openssh.com", "aes256-ctr")


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops: their transports differ, and the gateway runs on the second."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.mark.parametrize("cipher", [GCM, "aes256-gcm@openssh.com", *OTHERS])
async def test_there_and_back_under_every_cipher(tmp_path, cipher, accelerate):
    async with connected(tmp_path, accelerate=accelerate, encryption_algs=[cipher]) as transport:
        session = await sent_and_back(transport, CONTENT)
        assert session.got == CONTENT
        assert session.closed.result() is None


@pytest.mark.parametrize("narrow", [{"window": 1}, {"window": 5000, "max_pktsize": 999}, {"window": 40_000}])
async def test_window_and_packet_size_are_respected(tmp_path, narrow, accelerate):
    """asyncssh's server ends the connection if the client sends more."""
    content = CONTENT[: 300 if narrow["window"] == 1 else 300_000]
    async with connected(tmp_path, accelerate=accelerate, encryption_algs=[GCM], **narrow) as transport:
        session = await sent_and_back(transport, content)
        assert session.got == content


@pytest.mark.parametrize(("ours", "theirs"), [(30_000, 2**30), (2**30, 40_000), (70_000, 50_000)])
async def test_rekeying_during_transfers(tmp_path, ours, theirs, accelerate):
    async with connected(tmp_path, accelerate=accelerate, encryption_algs=[GCM], rekey_bytes=theirs) as transport:
        first = transport.raw._send_encryption
        transport.raw._rekey_bytes = ours
        sessions = await asyncio.gather(
            *(sent_and_back(transport, CONTENT[:size], 20_000) for size in (700_000, 10, 400_001))
        )
        assert [len(session.got) for session in sessions] == [700_000, 10, 400_001]
        assert all(CONTENT.startswith(session.got) for session in sessions)
        assert transport.raw._send_encryption is not first


async def test_no_data_is_sent_during_a_key_exchange(tmp_path):
    async with connected(tmp_path, encryption_algs=[GCM]) as transport:
        session, raw = Echoed(), transport.raw
        channel = await transport.open_channel(session, b"echo")
        before, raw._rekey_bytes = raw._send_seq, raw._rekey_bytes_sent + 40_000
        transport.send(channel, CONTENT[:20_000])
        assert raw._send_seq == before + 1
        transport.send(channel, CONTENT[20_000:700_000])
        assert raw._send_seq == before + 3, "one message more, and the wish for new keys"
        transport.send(channel, CONTENT[700_000:800_000])
        assert raw._send_seq == before + 3
        channel.write_eof()
        await session.closed
        assert session.got == CONTENT[:800_000]


async def test_a_server_that_exceeds_the_window_ends_the_connection(tmp_path, accelerate):
    async with connected(tmp_path, accelerate=accelerate, encryption_algs=[GCM]) as transport:
        session = Echoed()
        channel = await transport.open_channel(session, b"echo")
        channel._recv_window = 1000
        transport.send(channel, CONTENT[:20_000])
        assert isinstance(await session.closed, asyncssh.ProtocolError)
        assert transport.lost
        assert len(session.got) <= 1000


async def test_rekeying_after_a_time(tmp_path, accelerate):
    async with connected(tmp_path, accelerate=accelerate, encryption_algs=[GCM]) as transport:
        first = transport.raw._send_encryption
        transport.raw._rekey_seconds, transport.raw._rekey_time = 3600, 0.0
        assert (await sent_and_back(transport, CONTENT)).got == CONTENT
        assert transport.raw._send_encryption is not first


@pytest.mark.parametrize("seed", range(4))
async def test_messages_cut_anywhere(tmp_path, seed, accelerate):
    size = 60_000 if seed else 300_000
    async with connected(
        tmp_path, cutting(seed), accelerate=accelerate, encryption_algs=[GCM], rekey_bytes=100_000
    ) as transport:
        session = await sent_and_back(transport, CONTENT[:size])
        assert session.got == CONTENT[:size]


@pytest.mark.parametrize("after", [5_000, 5_001, 40_000, 100_003])
async def test_a_changed_byte_ends_the_connection(tmp_path, after, accelerate):
    network = cutting(0, spoil_after=after)
    async with connected(tmp_path, network, accelerate=accelerate, encryption_algs=[GCM]) as transport:
        session = Echoed()
        channel = await transport.open_channel(session, b"echo")
        transport.send(channel, CONTENT[:300_000])
        await session.closed
        assert transport.lost
        assert CONTENT.startswith(session.got), "nothing of the spoilt message, and nothing behind it"
        assert len(session.got) < after


async def test_data_that_waits_for_the_window_is_dropped_with_the_channel(tmp_path, accelerate):
    """A program that reads nothing: the channel closes without window, and no data follows."""
    at_rest = asyncio.Event()

    async def deaf(process: asyncssh.SSHServerProcess[bytes]) -> None:
        at_rest.set()
        await process.wait_closed()

    async with connected(
        tmp_path, accelerate=accelerate, encryption_algs=[GCM], program=deaf, window=50_000
    ) as transport:
        session = Echoed()
        channel = await transport.open_channel(session, b"deaf")
        transport.send(channel, CONTENT)
        assert not session.writable.is_set(), "who sends is told to wait at once"
        await at_rest.wait()
        channel.abort()
        await session.closed
        with pytest.raises(OSError, match="not open"):
            transport.send(channel, b"more")
        session = await _answer(transport)
        assert not transport.lost
        session.abort()


async def _answer(transport: Any) -> Any:
    return await transport.open_channel(Echoed(), b"deaf")


async def test_an_exception_in_a_session_ends_the_connection(tmp_path, accelerate):
    class Faulty(Echoed):
        def data_received(self, data: bytes, datatype: int | None) -> None:
            raise ZeroDivisionError(len(data), datatype)

    async with connected(tmp_path, accelerate=accelerate, encryption_algs=[GCM]) as transport:
        session = Faulty()
        channel = await transport.open_channel(session, b"echo")
        transport.send(channel, b"to be divided")
        assert isinstance(await session.closed, ZeroDivisionError)
        assert transport.lost


async def test_a_message_that_is_too_long_ends_the_connection(tmp_path, accelerate):
    """The length is not encrypted: an attacker could make the client collect up to 4 GiB."""
    async with connected(tmp_path, accelerate=accelerate, encryption_algs=[GCM]) as transport:
        session = Echoed()
        await transport.open_channel(session, b"echo")
        transport.raw.data_received(b"\xff" * 3)
        transport.raw.data_received(b"\xff" * 30)
        assert isinstance(await session.closed, asyncssh.ProtocolError)
        assert transport.lost
