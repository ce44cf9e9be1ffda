"""The addresses behind a host name: each is a login node of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import replace

from flamecrest.server.ssh.pool.host import Host

PATIENCE = 2.0  # seconds for which an answer of the name service is awaited


async def expanded(hosts: Sequence[Host]) -> list[Host]:
    """The hosts, and instead of a name with several addresses one host for each.

    A name that is not resolved now stays as it is, as do hosts behind a jump host, which resolves their names itself.
    """
    found = await asyncio.gather(*(_addresses(host) for host in hosts))
    made: list[Host] = []
    for host, addresses in zip(hosts, found, strict=True):
        made += [replace(host, address=address) for address in addresses] if len(addresses) > 1 else [host]
    return list(dict.fromkeys(made))


async def _addresses(host: Host) -> list[str]:
    if host.proxy_host is not None or host.address is not None or _is_address(host.host):
        return []
    try:
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.get_running_loop().getaddrinfo(host.host, host.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return []
    # a machine with an IPv4 and an IPv6 address is one node: the family that the system prefers counts
    family = answers[0][0] if answers else None
    return sorted({str(answer[4][0]) for answer in answers if answer[0] == family})


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True
