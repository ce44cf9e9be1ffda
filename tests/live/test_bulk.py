"""Much data over real OpenSSH, accelerated and by asyncssh alone, with rekeying during the transfer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import asyncssh
import pytest

from flamecrest.server.ssh.channels.sftp import Sftp
from flamecrest.server.ssh.channels.sftp_packets import FLAG_CREATE, FLAG_READ, FLAG_TRUNCATE, FLAG_WRITE
from flamecrest.server.ssh.counters import PoolCounters
from flamecrest.server.ssh.host_keys import HostKeyVerifier
from flamecrest.server.ssh.pool.dial import dial
from flamecrest.server.ssh.pool.host import Host

if TYPE_CHECKING:
    from .site import Site

pytestmark = pytest.mark.anyio

SIZE = 20_000_000


@pytest.mark.parametrize("accelerate", [True, False], ids=["accelerated", "asyncssh"])
@pytest.mark.parametrize("rekey", [2**40, 3_000_000, 40_000])
async def test_content_round_trips_with_rekeying(site: Site, rekey: int, accelerate: bool) -> None:
    content = os.urandom(SIZE)
    user = site.users[0]
    pairs = asyncssh.load_keypairs(str(site.keys / user))
    transport = await dial(
        Host(site.host, site.port, accelerate=accelerate),
        user,
        pairs,
        HostKeyVerifier([str(site.known_hosts)]),
        PoolCounters(),
    )
    try:
        transport.raw._rekey_bytes = rekey
        first = transport.raw._send_encryption
        sftp = Sftp(transport)
        await sftp.open(10)
        path = f"{site.root}/{user}/.flamecrest-test-{os.getpid()}".encode()
        try:
            async with sftp.handle(sftp.open_file(path, FLAG_WRITE | FLAG_CREATE | FLAG_TRUNCATE)) as handle:
                step = sftp.write_size
                asked = [sftp.write(handle, at, content[at : at + step]) for at in range(0, SIZE, step)]
                for done in asked:
                    await done
            async with sftp.handle(sftp.open_file(path, FLAG_READ)) as handle:
                read = [sftp.read(handle, at, sftp.read_size) for at in range(0, SIZE, sftp.read_size)]
                assert b"".join([await part for part in read]) == content
        finally:
            await sftp.remove(path)
        assert (transport.raw._send_encryption is first) == (rekey > SIZE)
    finally:
        transport.close()
        await transport.raw.wait_closed()
