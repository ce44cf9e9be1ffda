"""`X-Forwarded-For` and `X-Forwarded-Proto` of trusted reverse proxies. Knows the ASGI scope and no route."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope

FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
_SCHEMES: Final = frozenset({"http", "https"})


class TrustedProxies:
    """Addresses and networks of reverse proxies; `*` stands for every address."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._all = "*" in trusted
        self._networks = [ipaddress.ip_network(one) for one in trusted if one != "*"]

    def apply(self, scope: Scope) -> None:
        """Set `client` and `scheme` of a request as a trusted proxy has forwarded them.

        The client is the last address in `X-Forwarded-For` that is no trusted proxy: addresses before it are the
        client's own claim.
        """
        client = scope.get("client")
        if client is None or not self._trusts(client[0]):
            return
        addresses: list[str] = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                addresses += [one.strip() for one in value.decode("latin-1").split(",")]
            elif name == b"x-forwarded-proto" and (scheme := value.decode("latin-1").strip().lower()) in _SCHEMES:
                scope["scheme"] = scheme
        for address in reversed(addresses):
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
