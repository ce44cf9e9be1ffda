"""SFTP where the SSH server has no such subsystem: by a program on the login node, and which of the two a site needs.

It knows how an SFTP channel is opened and nothing of what goes over it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import asyncssh

from flamecrest.server.errors import Unsupported
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.command_line import shell_line
from flamecrest.server.ssh.errors import ChannelRefused
from flamecrest.server.ssh.programs.perl import one_line

from .sftp import Sftp

if TYPE_CHECKING:
    from flamecrest.server.ssh.pool.connection import Connection

PROGRAM: Final = one_line("sftp_server.pl")
# where Debian, Fedora, Arch, SUSE, Gentoo, Alpine and BSD put OpenSSH's program
SERVERS: Final = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/lib64/ssh/sftp-server",
    "/usr/lib/misc/sftp-server",
    "/usr/lib64/misc/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/libexec/ssh/sftp-server",
    "/usr/local/libexec/sftp-server",
)
REFUSAL_HOLDS: Final = 600.0  # seconds for which a refused subsystem is not asked for again

# The first argument is our own server's source, the rest are the places to look first. PERL5OPT and its like may be
# meant for somebody's own programs.
_START: Final = (
    'program=$1; shift; for server; do if [ -f "$server" ] && [ -x "$server" ]; then exec "$server"; fi; done; '
    'unset PERL5OPT PERL5DB PERL_UNICODE PERLIO; exec perl -e "$program"'
)


class SftpOpener:
    """How SFTP is reached at one site, as its server offers it: the subsystem if there is one, else a program."""

    def __init__(
        self,
        servers: Sequence[str] = SERVERS,
        *,
        clock: Callable[[], float] = time.monotonic,
        holds: float = REFUSAL_HOLDS,
    ) -> None:
        self._line = program_line(servers)
        self._clock = clock
        self._holds = holds
        self._refused: float | None = None  # when the subsystem was refused

    async def open(self, connection: Connection) -> Sftp:
        """An open SFTP client, one way or the other; raises ChannelRefused when there is no room, Unsupported, Lost."""
        if self._refused is None or self._clock() - self._refused >= self._holds:
            try:
                sftp = await _opened(connection, None)
            except Unsupported:
                self._refused = self._clock()
            else:
                self._refused = None
                return sftp
        try:
            return await _opened(connection, self._line)
        except ChannelRefused as refusal:
            # a channel that may be opened, but not used for commands: more channels would not help
            if refusal.args == (asyncssh.OPEN_REQUEST_SESSION_FAILED,):
                raise Unsupported("The cluster's SSH server offers neither SFTP nor commands") from None
            raise


async def _opened(connection: Connection, line: bytes | None) -> Sftp:
    sftp = Sftp(connection)
    try:
        await sftp.open(line)
    except BaseException:
        sftp.close()
        raise
    return sftp


def program_line(servers: Sequence[str] = SERVERS) -> bytes:
    """The line for the login shell: the first of these servers that is there, else ours where there is perl."""
    return shell_line(Command(("sh", "-c", _START, "sh", PROGRAM, *servers), lambda output: output))
