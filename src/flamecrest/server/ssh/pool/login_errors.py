"""The errors of connecting and logging in: by the class of the failure and by how far it got, never by its text.

The one exception is the line that OpenSSH sends before it drops a connection; it has no code.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import asyncssh

from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.errors import (
    AddressPenalised,
    ConnectionDropped,
    LoginLost,
    LoginRefused,
    LoginTimeout,
    NoIdentification,
    NothingSent,
    Unreachable,
)

if TYPE_CHECKING:
    from .greeting import Greeting

PENALISED = "Not allowed at this time"  # sshd.c of OpenSSH 9.8 and newer
EXEMPT = "the centre should list the gateway's address in PerSourcePenaltyExemptList (sshd_config)"


def explain(
    error: Exception, where: str, user: str, greeting: Greeting, refused_key: str | None = None
) -> GatewayError:
    """The error for the caller. `where` names the host; `refused_key` describes the host key that was refused, if any.

    Raises nothing. LoginRefused and LoginTimeout are about the user, ConnectionDropped about the gateway's address.
    """
    if isinstance(error, GatewayError):
        return error
    detail = f"{type(error).__name__}: {error}"
    if greeting.identification is None and greeting.connected and isinstance(error, (asyncssh.Error, ConnectionError)):
        return _dropped(where, greeting.text, detail)
    match error:
        case asyncssh.HostKeyNotVerifiable():
            text = refused_key or f"{where} failed: the host key could not be verified"
            return NothingSent(text, detail=refused_key or detail)  # it says more than the exception
        case asyncssh.PermissionDenied():
            text = f"{where} failed: the cluster did not accept the SSH credentials of {user}"
            return LoginRefused(text, detail=detail)
        case asyncssh.KeyExchangeFailed():
            return NothingSent(f"{where} failed: no common algorithm with the server", detail=detail)
        case asyncssh.ConnectionLost():
            return LoginLost(f"{where} failed: the server closed the connection", detail=detail)
        case asyncssh.ChannelOpenError(code=asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED):
            return LoginRefused(f"{where} failed: the jump host does not let {user} connect to it", detail=detail)
        case asyncssh.ChannelOpenError():
            return Unreachable(f"{where} failed: the jump host could not connect to it", detail=detail)
        case asyncssh.Error():
            return LoginRefused(f"{where} failed: the server ended the login of {user}", detail=detail)
    return _network_error(error, where, detail, greeting)


def _dropped(where: str, text: str, detail: str) -> ConnectionDropped:
    """The error for a connection that was closed before the server's identification."""
    said = f": '{text[:80]}'" if text else ""
    if PENALISED in text:
        problem = f"the server drops all connections of the gateway after failed logins{said}"
        return AddressPenalised(f"{where} failed: {problem}; {EXEMPT}", detail=detail)
    problem = f"the server dropped the connection before the login{said}"
    remedy = "too many logins at once (MaxStartups), PerSourcePenalties or a filter of addresses"
    return ConnectionDropped(f"{where} failed: {problem}; possible causes: {remedy}", detail=detail)


def _network_error(error: Exception, where: str, detail: str, greeting: Greeting) -> GatewayError:
    match error:
        case socket.gaierror():
            return Unreachable(f"{where} failed: the host name could not be resolved", detail=detail)
        case ConnectionRefusedError():
            return Unreachable(f"{where} failed: connection refused", detail=detail)
        case TimeoutError():
            kind: type[NothingSent] = Unreachable
            if greeting.jump is not None:
                kind = LoginTimeout  # the user's processes on the jump host pass on what it sends
            elif greeting.connected:
                kind = NoIdentification if greeting.identification is None else LoginTimeout
            return kind(f"{where} failed: no answer in time", detail=detail)
        case ConnectionError():
            return LoginLost(f"{where} failed: the connection was reset", detail=detail)
        case OSError():
            return Unreachable(f"{where} failed: {error.strerror or 'network error'}", detail=detail)
    return NothingSent(f"{where} failed", detail=detail)
