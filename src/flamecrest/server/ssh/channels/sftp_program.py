"""Opening SFTP: by the subsystem, or by a program on the login node if the SSH server has no such subsystem."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import asyncssh

from flamecrest.server.errors import Unsupported
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.command_line import shell_line
from flamecrest.server.ssh.errors import ChannelRefused
from flamecrest.server.ssh.programs.perl import one_line
from flamecrest.server.ssh.transport import SshTransport

from .sftp import Sftp

PROGRAM: Final = one_line("sftp_server.pl")
# paths of OpenSSH's program on Debian, Fedora, Arch, SUSE, Gentoo, Alpine and BSD
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
REFUSAL_TTL: Final = 600.0  # seconds for which a refused subsystem is not requested again

# The first argument is the source of our own server, the others are paths to try first. PERL5OPT and similar variables
# are the user's and meant for other programs.
_START: Final = (
    'program=$1; shift; for server; do if [ -f "$server" ] && [ -x "$server" ]; then exec "$server"; fi; done; '
    'unset PERL5OPT PERL5DB PERL_UNICODE PERLIO; exec perl -e "$program"'
)


class SftpOpener:
    """Opens SFTP on one cluster's connections: the subsystem, or a program once the subsystem was refused."""

    def __init__(
        self,
        servers: Sequence[str] = SERVERS,
        *,
        clock: Callable[[], float] = time.monotonic,
        refusal_ttl: float = REFUSAL_TTL,
    ) -> None:
        self._line = program_line(servers)
        self._clock = clock
        self._refusal_ttl = refusal_ttl
        self._refused: float | None = None  # when the subsystem was refused

    async def open(self, transport: SshTransport) -> Sftp:
        """An open SFTP client. Raises ChannelRefused when the server takes no more channels, Unsupported, Lost."""
        if self._refused is None or self._clock() - self._refused >= self._refusal_ttl:
            try:
                sftp = await _opened(transport, None)
            except Unsupported:
                self._refused = self._clock()
            else:
                self._refused = None
                return sftp
        try:
            return await _opened(transport, self._line)
        except ChannelRefused as refusal:
            # the channel was opened, but the server runs no command in it: another channel would not help
            if refusal.args == (asyncssh.OPEN_REQUEST_SESSION_FAILED,):
                raise Unsupported("The cluster's SSH server offers neither SFTP nor commands") from None
            raise


async def _opened(transport: SshTransport, line: bytes | None) -> Sftp:
    sftp = Sftp(transport)
    try:
        await sftp.open(line)
    except BaseException:
        sftp.close()
        raise
    return sftp


def program_line(servers: Sequence[str] = SERVERS) -> bytes:
    """The shell line that starts the first of these servers that exists, else our own by perl."""
    return shell_line(Command(("sh", "-c", _START, "sh", PROGRAM, *servers), lambda output: output))
