"""Addresses in X-Forwarded-For: the last ones count, and a long list costs no more than a short one."""

from __future__ import annotations

from typing import Any

import pytest

from flamecrest.server.http.edge.forwarded import MAX_PROXIES, TrustedProxies


def client(trusted: list[str], *values: bytes) -> str:
    scope: dict[str, Any] = {
        "client": ("127.0.0.1", 1),
        "headers": [(b"x-forwarded-for", value) for value in values],
    }
    TrustedProxies(trusted).apply(scope)
    return str(scope["client"][0])


def test_the_last_address_that_is_no_trusted_proxy_is_the_client() -> None:
    assert client(["127.0.0.1"], b"192.0.2.1, 192.0.2.2") == "192.0.2.2"
    assert client(["127.0.0.1", "192.0.2.2"], b"192.0.2.1", b"192.0.2.2") == "192.0.2.1"
    assert client(["192.0.2.2"], b"192.0.2.1") == "127.0.0.1"


@pytest.mark.parametrize("headers", [1, 10])
def test_only_so_many_addresses_are_read(headers: int) -> None:
    addresses = [b"10.0.%d.%d" % divmod(number, 256) for number in range(1000)]
    step = 1000 // headers
    values = [b",".join(addresses[at : at + step]) for at in range(0, 1000, step)]
    assert client(["*"], *values) == addresses[-MAX_PROXIES].decode()
