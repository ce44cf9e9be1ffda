"""The errors of the SSH room: a lost connection or channel, and a channel that the server refuses."""

from __future__ import annotations

from flamecrest.server.errors import Upstream


class Lost(Upstream):
    """The connection broke under the work; whether a change was made is not known."""


class ChannelLost(Lost):
    """A channel closed under the work; its connection is well."""


class ChannelRefused(Exception):
    """The server takes no more channels on this connection."""
