"""The seam between asyncssh and the faster parts: when they are installed, and that no nonce is used twice."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from typing import Any

import asyncssh
import asyncssh.crypto.cipher
import pytest
from asyncssh.crypto.cipher import GCMCipher
from cryptography.hazmat.primitives.ciphers import aead

from flamecrest.server.ssh import accelerate as room
from flamecrest.server.ssh.accelerate import fast_receive, fast_send
from tests.unit.ssh.accelerate.bulk_world import connected, sent_and_back

pytestmark = pytest.mark.anyio

GCM = "aes128-gcm@openssh.com"
CONTENT = random.Random(8).randbytes(700_000)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops: their transports differ, and the gateway runs on the second."""
    return "asyncio", {"use_uvloop": request.param}


def installed(connection: asyncssh.SSHClientConnection) -> set[str]:
    """The attributes of a connection that are not asyncssh's own."""
    names = {"data_received", "send_packet", "add_channel"} & set(vars(connection))
    return names | ({"_transport"} if isinstance(connection._transport, fast_send.BatchedTransport) else set())


async def test_the_installed_asyncssh_is_accelerated(tmp_path):
    assert asyncssh.__version__ in room.TESTED_VERSIONS
    async with connected(tmp_path, encryption_algs=[GCM]) as transport:
        assert installed(transport.raw) == {"data_received", "send_packet", "add_channel", "_transport"}
        receiver: Any = transport.raw.data_received
        assert isinstance(receiver.__self__, fast_receive.FastReceiver)


async def test_off_leaves_asyncssh_alone(tmp_path):
    async with connected(tmp_path, accelerate=False, encryption_algs=[GCM]) as transport:
        assert installed(transport.raw) == set()
        assert (await sent_and_back(transport, CONTENT)).got == CONTENT


async def test_an_untested_version_is_left_alone_and_named_once_in_the_log(tmp_path, caplog, anyio_backend):
    version = (
        f"2.21.{anyio_backend[1]['use_uvloop']:d}"  # one for each event loop: the line is written once per process
    )
    async with connected(tmp_path, accelerate=False, encryption_algs=[GCM]) as transport:
        with caplog.at_level(logging.WARNING):
            assert not room.accelerate(transport.raw, version)
            assert not room.accelerate(transport.raw, version)
        assert installed(transport.raw) == set()
    assert [(record.message, record.__dict__["fields"]["asyncssh"]) for record in caplog.records] == [
        ("SSH not accelerated", version)
    ]


class CountsBackwards(GCMCipher):
    def _update_iv(self) -> None:
        self._iv = self._iv[:4] + ((int.from_bytes(self._iv[4:]) - 1) & (2**64 - 1)).to_bytes(8)


class KeepsTheNonce(GCMCipher):
    def _update_iv(self) -> None:
        pass


class RenamesTheKey(GCMCipher):
    def __init__(self, name: str, key: bytes, nonce: bytes) -> None:
        super().__init__(name, key, nonce)
        del self._key
        self.key = key


class CountsBeforeUse(GCMCipher):
    def encrypt_and_sign(self, header: bytes, data: bytes) -> tuple[bytes, bytes]:
        self._update_iv()
        sealed = aead.AESGCM(self._key).encrypt(self._iv, data, header)
        return header + sealed[:-16], sealed[-16:]


def test_a_cipher_that_works_differently_is_detected():
    assert room.cipher_as_expected(GCMCipher)
    for other in (CountsBackwards, KeepsTheNonce, RenamesTheKey, CountsBeforeUse):
        assert not room.cipher_as_expected(other)


class Messages:
    """Every message that was encrypted and decrypted in this process, by key and nonce."""

    def __init__(self) -> None:
        self.encrypted: dict[bytes, list[tuple[str, bytes]]] = defaultdict(list)  # key: who, nonce
        self.decrypted: dict[tuple[bytes, bytes], set[bytes]] = defaultdict(set)  # key, nonce: messages

    def recorder(self, who: str) -> type:
        messages, real = self, aead.AESGCM

        class Recorder:
            def __init__(self, key: bytes) -> None:
                self._key, self._aead = key, real(key)

            def encrypt(self, nonce: bytes, data: bytes, header: bytes) -> bytes:
                messages.encrypted[self._key].append((who, nonce))
                return self._aead.encrypt(nonce, data, header)

            def decrypt(self, nonce: bytes, data: bytes, header: bytes) -> bytes:
                packet = self._aead.decrypt(nonce, data, header)
                messages.decrypted[self._key, nonce].add(bytes(data))
                return packet

        return Recorder


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Messages:
    """Records through the cryptography package, which both asyncssh and the faster parts call."""
    found = Messages()
    by_asyncssh, by_us = found.recorder("asyncssh"), found.recorder("accelerated")
    monkeypatch.setattr(asyncssh.crypto.cipher, "AESGCM", by_asyncssh)
    monkeypatch.setattr(aead, "AESGCM", by_us)
    return found


@pytest.mark.parametrize(("client", "server"), [(30_000, 2**30), (2**30, 40_000), (70_000, 50_000), (35_000, 35_000)])
async def test_no_two_messages_share_a_nonce_over_rekeying(tmp_path, messages, client, server):
    async with connected(tmp_path, encryption_algs=[GCM], rekey_bytes=server) as transport:
        transport.raw._rekey_bytes = client
        sizes = (700_000, 10, 400_001)
        sessions = await asyncio.gather(*(sent_and_back(transport, CONTENT[:size], 20_000) for size in sizes))

    assert len(messages.encrypted) >= 2 * 10, "a key for each direction, and ten pairs of them"
    for uses in messages.encrypted.values():
        nonces = [nonce for _, nonce in uses]
        assert len({nonce[:4] for nonce in nonces}) == 1
        first = int.from_bytes(nonces[0][4:])
        expected = [(first + number) % 2**64 for number in range(len(nonces))]
        assert [int.from_bytes(nonce[4:]) for nonce in nonces] == expected, "each once, and in order"
    both = [key for key, uses in messages.encrypted.items() if len({who for who, _ in uses}) == 2]
    assert both, "asyncssh and the faster parts encrypt with the same key"
    assert all(len(found) == 1 for found in messages.decrypted.values())
    assert {(key, nonce) for key, nonce in messages.decrypted} <= {
        (key, nonce) for key, uses in messages.encrypted.items() for _, nonce in uses
    }
    assert [session.got for session in sessions] == [CONTENT[:size] for size in sizes]
