"""A shell that is started behind each command for the next one, so that this need not wait for its login."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from flamecrest.server.errors import GatewayError

from .channels.process import Shell
from .errors import ChannelRefused
from .pool.channel_limit import Kind
from .pool.connection import Lease

if TYPE_CHECKING:
    from .pool.connection import Connection
    from .pool.pool import Pool

AHEAD_SECONDS = 60.0  # for which a shell waits for the next command: its environment is that of its login


def start_next(pool: Pool, connection: Connection) -> None:
    """Start a shell for the next command, if the server takes enough channels."""
    if not pool.requests_wait and connection.has_room_ahead(time.monotonic()):
        connection.opening_ahead = True
        pool.spawn(_keep_shell(Lease(pool, connection, Kind.SHARED)))


async def _keep_shell(lease: Lease) -> None:
    """Start a shell and share it for a while; nobody waits for it, so nothing is raised."""
    connection = lease.connection
    try:
        shell = await Shell.open(connection.transport)
    except ChannelRefused as refusal:
        connection.opening_ahead = False
        lease.refused(no_process=refusal.no_process)
        return
    except BaseException as error:
        connection.opening_ahead = False
        lease.release()
        if isinstance(error, GatewayError):
            return
        raise
    connection.opening_ahead = False  # before others are served
    connection.attach(shell)
    lease.release()
    with suppress(GatewayError):
        await shell.greeting(connection.host.login_timeout)
        await asyncio.sleep(AHEAD_SECONDS)
    if connection.shared(Shell) is shell:
        connection.close_shell()
        await shell.end()
