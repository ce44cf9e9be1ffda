"""What a reload of the configuration has changed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Changes:
    """The names of clusters that a reload has changed, and of settings that take effect at the next start only."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    ignored: tuple[str, ...]
