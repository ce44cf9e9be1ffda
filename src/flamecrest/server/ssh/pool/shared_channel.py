"""What the pool knows of a channel that requests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class SharedChannel(Protocol):
    """A channel that stays open and serves many requests: SFTP, the agent."""

    on_closed: Callable[[], None] | None

    @property
    def closed(self) -> bool: ...

    def close(self) -> None: ...
