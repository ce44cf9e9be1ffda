"""The login node that a connection leads to: a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """A login node and the jump host before it, if there is one. Times in seconds."""

    host: str
    port: int = 22
    proxy_host: str | None = None
    proxy_port: int = 22
    proxy_user: str | None = None  # None: the user's own name
    connect_timeout: float = 5.0
    login_timeout: float = 5.0
    keep_alive: float = 5.0
    accelerate: bool = True  # use `ssh/accelerate` where asyncssh's version allows it

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
