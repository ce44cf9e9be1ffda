"""Logs in with one authentication request where asyncssh sends three.

asyncssh asks for the methods first (`none`), then whether a key would do, and only then sends a signature. Each request
takes a round trip, and OpenSSH holds an answer back for 5 to 9 ms. A signature is cheap, and RFC 4252, section 7, lets
a client send it at once.
"""

# ruff: noqa: SLF001 -- asyncssh offers none of this in its public interface

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

from asyncssh.auth import _ClientPublicKeyAuth

if TYPE_CHECKING:
    import asyncssh

_METHOD: Final = b"publickey"


class _SignedAtOnce(_ClientPublicKeyAuth):
    """Tries each key by a signed request. A server that refuses one gets the next."""

    async def _start(self) -> None:
        self._keypair = await self._conn.public_key_auth_requested()
        if self._keypair is None:
            self._conn.try_next_auth(next_method=True)
        else:
            await self._send_signed_request()


def install(connection: asyncssh.SSHClientConnection) -> None:
    """Have a connection that has not begun to log in do so with public keys alone."""
    connection._auth_methods = [_METHOD]
    usual = type(connection).try_next_auth
    reference = weakref.ref(connection)  # no cycle: the connection keeps the function

    def try_next_auth(*, next_method: bool = False) -> None:
        found = reference()
        if found is None:
            return
        if next_method or found._auth_methods[:1] != [_METHOD]:
            usual(found, next_method=next_method)
            return
        if found._auth:
            found._auth.cancel()
        found._auth = _SignedAtOnce(found, _METHOD)

    connection.try_next_auth = try_next_auth  # type: ignore[method-assign]
