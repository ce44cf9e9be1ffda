"""A shell that is started behind each command for the next one, so that this need not wait for its login."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from flamecrest.server.errors import GatewayError

from .channels.process import Shell
from .errors import ChannelRefused

if TYPE_CHECKING:
    from flamecrest.server.ssh.pool.connection import Lease

AHEAD_SECONDS = 60.0  # for which a shell waits for the next command: its environment is that of its login


async def keep_shell(lease: Lease) -> None:
    """Start a shell and share it for a while; nobody waits for it, so nothing is raised.

    The end is that of the shell as one that waits: what a command on it prints is not held on to.
    """
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
        await asyncio.wait([shell.let_go], timeout=AHEAD_SECONDS)
    if connection.shared(Shell) is shell:
        connection.close_shell()
        await shell.end()
