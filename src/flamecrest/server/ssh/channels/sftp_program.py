"""Opening SFTP: by the subsystem, or by a program on the login node if the SSH server has no such subsystem."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Callable, Sequence
from typing import Final

from flamecrest.server.errors import Unsupported
from flamecrest.server.ssh.errors import ChannelRefused, NoCommands, NotStarted
from flamecrest.server.ssh.programs.perl import one_line
from flamecrest.server.ssh.start_line import START_LINE, sh_text
from flamecrest.server.ssh.transport import SshTransport

from .process import Shell, not_started
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

GREETING_SECONDS: Final = 10.0  # for which the greeting of a login is awaited


class SftpOpener:
    """Opens SFTP on one cluster's connections: the subsystem, or a program once the subsystem was refused."""

    def __init__(
        self,
        servers: Sequence[str] = SERVERS,
        *,
        clock: Callable[[], float] = time.monotonic,
        refusal_ttl: float = REFUSAL_TTL,
    ) -> None:
        self._text = program_text(servers)
        self._clock = clock
        self._refusal_ttl = refusal_ttl
        self._refused: float | None = None  # when the subsystem was refused

    async def open(self, transport: SshTransport) -> Sftp:
        """An open SFTP client. Raises ChannelRefused when the server takes no more channels, Unsupported, Lost."""
        if self._refused is None or self._clock() - self._refused >= self._refusal_ttl:
            try:
                sftp = await _opened(transport)
            except Unsupported:
                self._refused = self._clock()
            except NotStarted as error:
                if not error.said:
                    await _ask_why(transport)
                raise
            else:
                self._refused = None
                return sftp
        try:
            return await _opened_by_program(transport, self._text)
        except ChannelRefused as refusal:
            # the channel was opened, but the server runs no command in it: another channel would not help
            if refusal.no_process:
                self._refused = None  # a user's limit of processes forbids both
                raise Unsupported("The cluster's SSH server offers neither SFTP nor commands") from None
            raise


async def _opened(transport: SshTransport, line: bytes | None = None) -> Sftp:
    sftp = Sftp(transport)
    try:
        async with asyncio.timeout(GREETING_SECONDS):
            await sftp.open(line=line)
    except BaseException as error:
        sftp.close()
        if isinstance(error, TimeoutError):  # a login that hangs, and starts the subsystem by its shell
            raise not_started(f"did not start an SFTP server within {GREETING_SECONDS:g} seconds", b"", b"") from None
        raise
    return sftp


async def _ask_why(transport: SshTransport) -> None:
    """Raise the NotStarted of a shell, if it has words: OpenSSH drops what a subsystem prints on standard error."""
    shell = await Shell.open(transport)
    try:
        await shell.greeting(GREETING_SECONDS)
    except NotStarted as error:
        if error.said:
            raise
    finally:
        shell.close()


async def _opened_by_program(transport: SshTransport, text: bytes) -> Sftp:
    shell = await Shell.open(transport)
    try:
        await shell.greeting(GREETING_SECONDS)
        sftp = Sftp(transport)
        await sftp.open(shell, text)
    except NoCommands:  # whatever is started, it is an SFTP server
        return await _opened(transport, START_LINE)
    except BaseException:
        shell.close()
        raise
    return sftp


async def refuses_commands(transport: SshTransport) -> bool:
    """Whether a server that has refused a command does so again, though it starts an SFTP server meanwhile.

    A user's limit of processes would forbid both. Raises Lost, and NotStarted with the login's words.
    """
    if transport.runs_commands:
        return False
    try:
        (await _opened(transport)).close()
        (await Shell.open(transport)).close()
    except ChannelRefused as refusal:
        return refusal.no_process
    except Unsupported:
        pass
    return False


def program_text(servers: Sequence[str] = SERVERS) -> bytes:
    """What /bin/sh is told to become the first of these servers that exists, else our own by perl."""
    search = f"for server in {' '.join(map(shlex.quote, servers))}; do "
    search += 'if [ -f "$server" ] && [ -x "$server" ]; then exec "$server"; fi; done; '
    # in one line: what is behind it would be the input of the server that is found
    return sh_text(f"{search if servers else ''}exec perl -e '{PROGRAM}'")
