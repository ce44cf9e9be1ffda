"""How many channels a connection takes, and which of them commands may use. Pure, without I/O.

The limit is configured or learned from refusals. A refusal lowers the limit of its connection only, to the channels
that were open, and only for a pause. Then one channel more is tried; if it is accepted, the limit is
doubled, up to the configured limit if there is one.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

OPENSSH_MAX_SESSIONS = 10  # OpenSSH's default: the first guess
PAUSES = (0.1, 0.2, 0.4, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds until one channel more is tried


class ChannelLimit:
    """The limit of one connection. Times are monotonic, in seconds."""

    __slots__ = ("_configured", "_refusals", "_until", "most", "no_process", "refused")

    def __init__(self, configured: int | None) -> None:
        self._configured = configured is not None
        self.most = configured or OPENSSH_MAX_SESSIONS  # as far as is known
        self.refused: int | None = None  # channels that were open when the server refused one more
        self._refusals = 0  # in a row
        self.no_process = False  # the last refusal was of the program, not of the channel
        self._until = 0.0  # the end of the pause

    def now(self, now: float) -> int:
        """The number of channels that may be open now."""
        if self.refused is None:
            return self.most
        return min(self.most, self.refused + (now >= self._until))

    @property
    def steady(self) -> int:
        """The number of channels that the server takes, as far as is known, at least 1."""
        return self.most if self.refused is None or self.no_process else max(1, self.refused)

    def wait(self, now: float) -> float | None:
        """Seconds until one channel more is tried; None: no refusal is remembered."""
        return None if self.refused is None else max(0.0, self._until - now)

    def refuse(self, channels: int, now: float, *, no_process: bool = False) -> None:
        """The server refused a channel while `channels` others were open.

        `no_process`: it opened the channel and could not start its program, as with the user's limit of processes.
        """
        self.refused = channels
        self.no_process = no_process
        if now < self._until:
            return  # of channels that were asked for together
        self._until = now + PAUSES[min(self._refusals, len(PAUSES) - 1)]
        self._refusals += 1

    def accept(self, channels: int, now: float) -> bool:
        """The server has opened a channel, with which there are `channels`; whether more may be opened now."""
        if self.refused is not None:
            if channels <= self.refused:
                return False
            self.refused, self._refusals, self._until = 2 * channels, 0, now
            if self.refused >= self.most or self.no_process:
                self.refused = None
            self.no_process = False
            return True
        if self._configured or channels < self.most:
            return False
        self.most += 1
        return True


class Kind(IntEnum):
    """What a channel is for. The value is the number of a user's channels that this kind leaves to the kinds before.

    So what opens a shared channel never waits behind commands, and short commands never behind long ones only. A user
    with fewer channels than RESERVING gets them by turns.
    """

    SHARED = 0  # a shared channel: SFTP, the agent
    SHORT = 2  # a command
    LONG = 3  # a command that may take longer than SHORT_COMMAND seconds, or a stream


SHORT_COMMAND = 30.0
RESERVING = 4  # channels


class Load(NamedTuple):
    """The channels of one user on all usable connections: how many may be open, and the commands on them."""

    capacity: int
    commands: int
    long: int

    def allows(self, kind: Kind) -> bool:
        """Whether one more of that kind leaves enough to the others."""
        if kind is Kind.SHARED or self.capacity < RESERVING:
            return True
        if self.commands >= self.capacity - Kind.SHORT.value:
            return False
        return kind is Kind.SHORT or self.long < self.capacity - Kind.LONG.value
