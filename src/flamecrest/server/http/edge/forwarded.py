"""The headers `X-Forwarded-*` of trusted reverse proxies. Knows the ASGI scope and no route."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from flamecrest.server.http.access.address import FORWARDED_HOST, FROM_PROXY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope

FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"})
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
MAX_PROXIES: Final = 32  # addresses that are read: whoever sends a longer list has made it up
_SCHEMES: Final = frozenset({"http", "https"})


class TrustedProxies:
    """Addresses and networks of reverse proxies; `*` stands for every address."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._all = "*" in trusted
        self._networks = [ipaddress.ip_network(one) for one in trusted if one != "*"]

    def apply(self, scope: Scope) -> None:
        """Set `client`, `scheme`, FROM_PROXY and FORWARDED_HOST of a request as a trusted proxy has forwarded them.

        The client is the last address in `X-Forwarded-For` that is no trusted proxy: addresses before it are the
        client's own claim.
        """
        client = scope.get("client")
        if client is None or not self._trusts(client[0]):
            return
        scope[FROM_PROXY] = True
        addresses: list[str] = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                addresses += [one.strip() for one in value.decode("latin-1").rsplit(",", MAX_PROXIES)]
            elif name == b"x-forwarded-proto" and (scheme := value.decode("latin-1").strip().lower()) in _SCHEMES:
                scope["scheme"] = scheme
            elif name == b"x-forwarded-host" and _HOST.fullmatch(value):
                scope[FORWARDED_HOST] = value.decode("ascii")
        for address in reversed(addresses[-MAX_PROXIES:]):
            if not _is_address(address):
                return
            scope["client"] = (address, 0)
            if not self._trusts(address):
                return

    def _trusts(self, address: str) -> bool:
        if self._all:
            return True
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
