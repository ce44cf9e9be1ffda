"""The login node that a connection leads to: a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STALL_TIMEOUT: Final = 30.0  # seconds; longer where keep_alive waits longer for a server that is silent


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
    address: str | None = None  # one of several addresses of the name; None: whatever the name resolves to
    weight: float = 1.0  # how much work it takes, compared to the other nodes of its cluster
    near: bool = True  # it is in the zone of the gateway, or no zones are known
    zone: str | None = None
    pinned: tuple[str, ...] = ()  # public keys, of which it must show one; none: the rules of the cluster

    @property
    def stall_timeout(self) -> float:
        """Seconds without any progress after which a transfer fails.

        Later than the keep-alive ends a connection: of a server that is silent for a while, that decides.
        """
        return max(STALL_TIMEOUT, 6 * self.keep_alive)

    def __str__(self) -> str:
        address = f" ({self.address})" if self.address is not None else ""
        return f"{self.host}:{self.port}{address}"
