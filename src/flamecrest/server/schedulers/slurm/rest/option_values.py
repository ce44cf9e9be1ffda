"""Values of sbatch's options: durations, sizes, times, numbers of GPUs; None for what cannot be read. No I/O."""

from __future__ import annotations

import re
from typing import Final

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SIZE: Final = re.compile(r"([0-9]{1,12})([KMGT]?)B?", re.ASCII | re.IGNORECASE)
_KIBIBYTES: Final = {"": 1024, "K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}
_DURATION: Final = re.compile(r"(?:([0-9]{1,6})-)?([0-9]{1,7})(?::([0-9]{1,4}))?(?::([0-9]{1,4}))?", re.ASCII)
_NOW: Final = re.compile(r"now(?:\+([0-9]{1,9})(seconds?|minutes?|hours?|days?|weeks?)?)?", re.ASCII | re.IGNORECASE)
_UNITS: Final = {"s": 1, "m": _MINUTE, "h": _HOUR, "d": _DAY, "w": 7 * _DAY}
_EPOCH: Final = re.compile(r"uts([0-9]{1,11})", re.ASCII)
_TYPED: Final = re.compile(r"(?:([A-Za-z][A-Za-z0-9_.-]{0,63}):)?([0-9]{1,6})|([A-Za-z][A-Za-z0-9_.-]{0,63})", re.ASCII)


def seconds(text: str) -> int | None:
    """A time limit: `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours[:minutes[:seconds]]`."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    days, first, second, third = (None if part is None else int(part) for part in found.groups())
    if days is not None:
        return days * _DAY + (first or 0) * _HOUR + (second or 0) * _MINUTE + (third or 0)
    if third is not None:
        return (first or 0) * _HOUR + (second or 0) * _MINUTE + third
    return (first or 0) * _MINUTE + (second or 0)


def size(text: str) -> int | None:
    """MiB of a size whose default unit is MiB; a part of one counts as one."""
    found = _SIZE.fullmatch(text)
    return None if found is None else -(-int(found[1]) * _KIBIBYTES[found[2].upper()] // 1024)


def moment(text: str, now: float) -> int | None:
    """Seconds since the epoch of `now`, `now+2hours` or `uts1900000000`.

    Dates and times of day are in the time zone of the cluster, which is not known here.
    """
    if (epoch := _EPOCH.fullmatch(text)) is not None:
        return int(epoch[1])
    found = _NOW.fullmatch(text)
    return None if found is None else int(now) + int(found[1] or 0) * _UNITS[(found[2] or "s")[0].lower()]


def typed_count(text: str) -> tuple[str, int] | None:
    """Type (or "") and number of GPUs: `2`, `a100:2`, `a100`."""
    found = _TYPED.fullmatch(text)
    return None if found is None else (found[1] or found[3] or "", int(found[2] or 1))
