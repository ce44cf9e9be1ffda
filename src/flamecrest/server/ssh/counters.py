"""What happened on the SSH connections of one cluster so far, as numbers that only grow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class PoolCounters:
    """One value per pool. The pool and its connections count, `Pool.stats` reads."""

    opened: int = 0  # connections
    replaced: int = 0  # connections that were lost or silent while in use
    refusals: int = 0  # channels that a server refused
    refused_late: int = 0  # requests that would have waited until after their deadline
    refused_of_user: int = 0  # requests of users who have as many waiting as may
    refused_full: int = 0  # requests for which the queue had no room
    channels_opened: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0  # of data in channels
    bytes_received: int = 0
