"""Time windows of rules: days of the week and hours in a time zone, such as `Mon-Fri 08:00-18:00`. No clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW: Final = re.compile(r"(?P<days>[a-z,\- ]+?)?\s*(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Hours of some days. A window whose end is not after its start goes on into the next day."""

    days: frozenset[int]  # 0 is Monday
    start: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, zone: str) -> TimeWindow:
        """Parse `Mon-Fri 08:00-18:00`, `Sat,Sun 00:00-24:00` or `22:00-06:00` (every day). Raises ValueError."""
        found = _WINDOW.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} is no time window: write it as `Mon-Fri 08:00-18:00`")
        try:
            where = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{zone!r} is no known time zone") from None
        end = "00:00" if found["end"] == "24:00" else found["end"]
        try:
            return cls(_days(found["days"]), time.fromisoformat(found["start"]), time.fromisoformat(end), where)
        except ValueError as error:
            raise ValueError(f"{text!r} is no time window: {error}") from None

    def contains(self, moment: datetime) -> bool:
        """Whether a moment (with a time zone) lies in the window. The end is not part of it."""
        local = moment.astimezone(self.zone)
        now, today = local.time(), local.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= now < self.end
        before = (local - timedelta(days=1)).weekday()
        return (today in self.days and now >= self.start) or (before in self.days and now < self.end)


def _days(text: str | None) -> frozenset[int]:
    if text is None or not text.strip():
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.lower().replace(" ", "").split(","):
        first, _, last = part.partition("-")
        start, end = _day(first), _day(last or first)
        found.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(found)


def _day(name: str) -> int:
    if name[:3] not in DAYS or (len(name) > 3 and not name.endswith("day")):
        raise ValueError(f"{name!r} is no day: they are {', '.join(day.capitalize() for day in DAYS)}")
    return DAYS.index(name[:3])
