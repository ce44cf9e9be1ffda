"""Times of files beyond 32 bits. SFTP version 3 has only the lowest 32 bits of a time, without a sign. No I/O."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Final

U32_TIMES: Final = range(1 << 32)  # what SFTP can set and tells unambiguously: 1970 to 2106

_ERA: Final = 1 << 32  # seconds: 136 years
_YEAR: Final = 31_556_952  # seconds of a mean year of the Gregorian calendar
_CYCLE: Final = 400 * _YEAR  # after which its dates and weekdays repeat


def whole_time(low: int, when: bytes) -> int:
    """Return the time of a directory entry, from its lowest 32 bits and the last 5 characters of its date in `ls -l`.

    These are the year or, for times of the last half year, the time of day. The year tells the era.
    """
    if when[2:3] == b":" or not when.strip().isdigit():
        return low
    middle = (int(when) - 1970) * _YEAR + _YEAR // 2
    found = low + round((middle - low) / _ERA) * _ERA
    return found if abs(found - middle) < 2 * _YEAR else low  # else it is no line of `ls -l`


def local_time(seconds: int, zone: tzinfo) -> str:
    """Format a time in a time zone: YYYY-MM-DDTHH:MM:SS without offset. Years after 9999 have more digits."""
    try:
        return datetime.fromtimestamp(seconds, zone).replace(tzinfo=None).isoformat()
    except (OverflowError, ValueError, OSError):
        cycles, rest = divmod(seconds, _CYCLE)
        found = datetime.fromtimestamp(rest, zone).replace(tzinfo=None)
        return f"{found.year + 400 * cycles:04}{found.isoformat()[4:]}"
