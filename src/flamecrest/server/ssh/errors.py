"""The errors of the SSH room: a lost connection or channel, a refused channel, and a failed stat(2)."""

from __future__ import annotations

from flamecrest.server.errors import Upstream


class Lost(Upstream):
    """The connection broke during a request; it is not known whether the request took effect."""


class ChannelLost(Lost):
    """A channel closed during a request; its connection is still usable."""


class ChannelRefused(Exception):
    """The server accepts no more channels on this connection. The argument is the reason code (RFC 4254)."""


class StatError(Exception):
    """stat(2) failed with this errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number
