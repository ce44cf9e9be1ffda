"""Faster replacements for parts of asyncssh, switched on for one connection: `quick_login`, then `accelerate`.

They use asyncssh's private attributes. So they are installed only for versions of asyncssh with which the test suite
has passed, and only if asyncssh's AES-GCM keeps key and nonce as expected. Every other connection works by asyncssh
alone: slower, otherwise the same. See docs/adr/0018-accelerated-ssh.md.
"""

# ruff: noqa: SLF001 -- asyncssh offers none of this in its public interface

from __future__ import annotations

import logging
import os
from functools import cache

import asyncssh
from asyncssh.crypto.cipher import GCMCipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import fast_receive, fast_send, one_request

TESTED_VERSIONS = ("2.24.1",)  # of asyncssh

logger = logging.getLogger(__name__)


def quick_login(connection: asyncssh.SSHClientConnection, version: str = asyncssh.__version__) -> bool:
    """Have a new connection log in with one request. Returns as `accelerate`."""
    if not _supported(version):
        return False
    one_request.install(connection)
    return True


def accelerate(connection: asyncssh.SSHClientConnection, version: str = asyncssh.__version__) -> bool:
    """Install the faster parts on a connection that has logged in, and on every channel that it opens from now on.

    Returns False, and changes nothing, where this version of asyncssh has not been tested.
    """
    if not _supported(version):
        return False
    fast_receive.install(connection)
    fast_send.install(connection)
    return True


@cache  # once per process: one line in the log
def _supported(version: str) -> bool:
    if version not in TESTED_VERSIONS:
        reason = "this version of asyncssh has not been tested"
    elif not cipher_as_expected(GCMCipher):
        reason = "asyncssh's AES-GCM does not work as expected"
    else:
        return True
    fields = {"reason": reason, "asyncssh": version, "tested": TESTED_VERSIONS}
    logger.warning("SSH not accelerated", extra={"fields": fields})
    return False


def cipher_as_expected(cipher_class: type[GCMCipher]) -> bool:
    """Whether the key, the nonce and its counter are where the faster parts read them (RFC 5647, section 7.1)."""
    key, nonce, header, data = os.urandom(16), os.urandom(4) + b"\xff" * 8, b"head", b"data of one message"
    expected = header + AESGCM(key).encrypt(nonce, data, header)
    try:
        cipher = cipher_class("aes128-gcm", key, nonce)
        sealed = b"".join(cipher.encrypt_and_sign(header, data))
        after_use = cipher._iv
        cipher._update_iv()
        found = (cipher._key, sealed, after_use, cipher._iv)
    except (AttributeError, TypeError, ValueError):
        return False
    return found == (key, expected, nonce[:4] + bytes(8), nonce[:4] + bytes(7) + b"\x01")
