"""Options of the HTTP server, whichever it is, and those of its listening socket."""

from __future__ import annotations

import resource
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from flamecrest.server.settings import ServerSettings

BACKLOG: Final = 2048  # connections that wait to be accepted

_KEEPALIVE_SECONDS: Final = 60  # without a packet, after which a client's system is asked whether it is still there


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Limits and certificates. Times in seconds, sizes in bytes; `tls` is the certificate's file and the key's."""

    http: Literal["granian", "uvicorn"] = "granian"
    header_timeout: float = 75.0
    stall_timeout: float = 60.0
    max_connections: int = 2000
    max_requests_per_user: int = 1000
    max_memory: int = 2 * 1024**3
    backlog: int = BACKLOG
    tls: tuple[str, str] | None = None

    @classmethod
    def of(cls, settings: ServerSettings) -> HttpOptions:
        """The options of a configuration; connections get at most half of the process's file descriptors."""
        certificate, key = settings.tls_certificate, settings.tls_key
        connections = min(settings.max_connections, file_descriptors() // 2)
        return cls(
            settings.http,
            settings.header_timeout,
            settings.stall_timeout,
            connections,
            settings.max_requests_per_user or max(1, connections // 2),
            settings.max_memory,
            tls=(certificate, key) if certificate is not None and key is not None else None,
        )


def file_descriptors() -> int:
    """Raise the process's limit of file descriptors as far as the system allows, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return 65536 if soft == resource.RLIM_INFINITY else soft


def limit_stalls(listener: socket.socket, stall_timeout: float) -> None:
    """Make the system end each accepted connection whose client takes no data for `stall_timeout` seconds.

    The server hands a small response to the system whole, so the application cannot see whether it is read. Linux
    copies these options from a listening socket to the connections that it accepts (tcp(7): TCP_USER_TIMEOUT).
    """
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_timeout * 1000))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
