"""The errors of the SSH room: a lost connection or channel, a refused channel, and a failed stat(2)."""

from __future__ import annotations

from flamecrest.server.errors import Denied, Unavailable, Unsupported, Upstream


class Lost(Upstream):
    """The connection broke during a request; it is not known whether the request took effect."""


class Unanswered(Lost):
    """The connection's server has stopped answering; the request is made again over another connection."""


class ChannelLost(Lost):
    """A channel closed during a request; its connection is still usable."""


class ChannelRefused(Exception):
    """The server accepts no more channels on this connection. The argument is the reason code (RFC 4254).

    `no_process`: it opened the channel and could not start the program.
    """

    def __init__(self, code: int, *, no_process: bool = False) -> None:
        super().__init__(code)
        self.no_process = no_process


class OpenMeanwhile(Exception):
    """The shared channel that a request wanted to open was opened for another request of the user: it can be used."""


class NothingSent(Upstream):
    """No connection or channel could be had: nothing of the request has reached the login node."""


class LoginLost(Lost, NothingSent):
    """The connection broke during its login."""


class CredentialsFailed(NothingSent):
    """The user's SSH credentials could not be obtained or read."""


class CredentialsRefused(Denied):
    """The source of credentials has none for this user, or does not accept the user's token."""


class CredentialsUnavailable(Unavailable):
    """The source of credentials does not answer, or issues none now."""


class StatError(Exception):
    """stat(2) failed with this errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


class LoginRefused(NothingSent):
    """The server did not accept the user's credentials, or ended the login."""


class Unreachable(NothingSent):
    """The login node cannot be reached, or does not answer, for any user: nothing depends on the credentials."""


class LoginTimeout(NothingSent):
    """The server accepted the connection, and the login did not finish in time."""


class NoIdentification(LoginTimeout, Unreachable):
    """The server accepted the connection, and sent no SSH identification in time."""


class ConnectionDropped(LoginLost):
    """The server closed the connection before its SSH identification: it takes no login from this address now.

    It says nothing about the user. OpenSSH does so at MaxStartups; filters of addresses do so, too.
    """


class AddressPenalised(ConnectionDropped):
    """The server drops all connections from this address after failed logins (PerSourcePenalties of OpenSSH)."""


class NotStarted(Upstream):
    """The login did not start our program: nothing was run."""

    hung = False  # the login did not end: it waits, or prints for ever
    said = False  # the message has words of the login


class EndedEarly(Upstream):
    """The program was started, and was ended before its exit status came."""


class NoCommands(Unsupported):
    """The login runs no commands at all: SFTP only."""

    def __init__(self, operation: str = "this operation", *, detail: str | None = None) -> None:
        super().__init__(f"This login offers SFTP only; {operation} needs commands on the cluster", detail=detail)


NO_PROGRAM = (NotStarted, NoCommands)  # after these, what SFTP can do may be done by SFTP
# after these, nothing of the request has reached the login node
NOTHING_RUN = (NotStarted, NothingSent)
