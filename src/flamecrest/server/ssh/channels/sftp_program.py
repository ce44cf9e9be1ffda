"""Opening SFTP: by the subsystem, or by a program on the login node if the SSH server has no such subsystem."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from typing import Final

from flamecrest.server.errors import Unsupported
from flamecrest.server.ssh.errors import ChannelRefused, NoCommands, NotStarted
from flamecrest.server.ssh.login_memory import Expiring
from flamecrest.server.ssh.programs.perl import one_line
from flamecrest.server.ssh.start_line import START_LINE, sh_text
from flamecrest.server.ssh.transport import SshTransport

from .process import Shell
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
REFUSAL_TTL: Final = 600.0  # seconds for which a refused subsystem is not requested again by that user
HUNG_TTL: Final = 120.0  # the same after a login that hung: what its shell starts can be ended, and has words


class SftpOpener:
    """Opens SFTP on one cluster's connections: the subsystem, or a program once the user's was refused."""

    def __init__(
        self,
        servers: Sequence[str] = SERVERS,
        *,
        clock: Callable[[], float] = time.monotonic,
        refusal_ttl: float = REFUSAL_TTL,
    ) -> None:
        self._text = program_text(servers)
        self._refusal_ttl = refusal_ttl
        self._refused: Expiring[bool] = Expiring(clock)

    async def open(self, transport: SshTransport, user: str, seconds: float) -> Sftp:
        """An open SFTP client. The login must greet, and the server begin, within so many seconds each.

        Raises ChannelRefused when the server takes no more channels, Unsupported, NotStarted, Lost.
        """
        if user not in self._refused:
            try:
                return await _opened(transport, seconds)
            except Unsupported:
                self._refused.set(user, value=True, seconds=self._refusal_ttl)
            except NotStarted as error:
                if error.hung:
                    self._refused.set(user, value=True, seconds=HUNG_TTL)
                elif not error.said and await _ask_why(transport, seconds):
                    error.hung = True
                raise
        try:
            return await _opened_by_program(transport, self._text, seconds)
        except ChannelRefused as refusal:
            # the channel was opened, but the server runs no command in it: another channel would not help
            if refusal.no_process:
                self._refused.forget(user)  # a user's limit of processes forbids both
                if not transport.runs_commands:
                    text = "The cluster's SSH server offers neither SFTP nor commands"
                    raise Unsupported(f"{text}, or your limit of processes (ulimit -u) is reached") from None
            raise


async def _opened(transport: SshTransport, seconds: float, line: bytes | None = None) -> Sftp:
    sftp = Sftp(transport)
    try:
        await sftp.open(seconds, line=line)
    except BaseException:
        sftp.close()
        raise
    return sftp


async def _ask_why(transport: SshTransport, seconds: float) -> bool:
    """Raise the NotStarted of a shell, if it has words: OpenSSH drops what a subsystem prints on standard error.

    Else whether the shell hangs.
    """
    shell = await Shell.open(transport)
    try:
        await shell.greeting(seconds)
    except NotStarted as error:
        if error.said:
            raise
        return error.hung
    finally:
        shell.kill()
    return False


async def _opened_by_program(transport: SshTransport, text: bytes, seconds: float) -> Sftp:
    shell = await Shell.open(transport)
    try:
        await shell.greeting(seconds)
        sftp = Sftp(transport)
        await sftp.open(seconds, shell, text)
    except NoCommands:  # whatever is started, it is an SFTP server
        return await _opened(transport, seconds, START_LINE)
    except BaseException:
        shell.kill()
        raise
    return sftp


async def refuses_commands(transport: SshTransport, seconds: float) -> bool:
    """Whether a server that has refused a command does so again, though it starts an SFTP server meanwhile.

    A user's limit of processes would forbid both. Raises Lost, and NotStarted with the login's words.
    """
    if transport.runs_commands:
        return False
    try:
        (await _opened(transport, seconds)).close()
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
