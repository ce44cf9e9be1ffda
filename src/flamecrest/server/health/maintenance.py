"""Maintenance windows: times for which an operator has closed a cluster, or some of its services. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """A closed time. start, end: with a time zone; None: since ever, until further notice.

    services: those that are closed; empty: all. paths: those file systems alone; empty: all. message: for users.
    """

    start: datetime | None = None
    end: datetime | None = None
    services: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    message: str = ""

    def closes(self, service: str, path: str | None, now: datetime) -> bool:
        """Whether the service is closed now."""
        if self.services and service not in self.services:
            return False
        if path is not None and self.paths and path not in self.paths:
            return False
        return (self.start is None or self.start <= now) and (self.end is None or now < self.end)


def window_of(
    windows: Sequence[MaintenanceWindow], service: str, path: str | None, now: datetime
) -> MaintenanceWindow | None:
    """The window that closes the service now: of several the one that ends last."""
    found = [one for one in windows if one.closes(service, path, now)]
    endless = next((one for one in found if one.end is None), None)
    return endless or max(found, key=lambda one: one.end or now, default=None)
