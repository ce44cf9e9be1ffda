"""Log analysis: the time of each call and of its parts, from the gateway's access log.

Lines that are no valid access lines are skipped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ACCESS = "flamecrest.access"
PARTS = ("auth", "queue", "ssh", "server")  # in the order of a call
MAX_LINE = 64 * 1024  # bytes; longer lines are skipped


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """The milliseconds of one request: in total, and in each of PARTS."""

    operation: str
    total: float
    parts: Mapping[str, float]


def calls(lines: Iterable[bytes]) -> list[LoggedCall]:
    """The successful calls in the lines of a log."""
    found = (call(line) for line in lines)
    return [one for one in found if one is not None]


def call(line: bytes) -> LoggedCall | None:
    """The call of an access line; None for another line and for a call that failed."""
    fields = parsed(line)
    if fields is None or fields.get("logger") != ACCESS:
        return None
    status, total = fields.get("status"), _milliseconds(fields.get("ms"))
    if not isinstance(status, int) or not 200 <= status < 400 or total is None:
        return None
    spent = [_milliseconds(fields.get(f"{part}_ms", 0)) for part in PARTS[:-1]]
    connecting = _milliseconds(fields.get("connect_ms", 0))  # waited for, like a channel
    known = [part for part in spent if part is not None]
    if len(known) < len(spent) or connecting is None:
        return None
    known[PARTS.index("queue")] += connecting
    rest = max(0.0, total - sum(known))  # rounding can make it negative
    return LoggedCall(_operation(fields), total, dict(zip(PARTS, (*known, rest), strict=True)))


def parsed(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None if there is none."""
    if len(line) > MAX_LINE:
        return None
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, a number too long, or nested too deeply
        return None
    return fields if isinstance(fields, dict) else None


def by_operation(found: Iterable[LoggedCall]) -> dict[str, list[LoggedCall]]:
    """The calls grouped by operation."""
    groups: dict[str, list[LoggedCall]] = {}
    for one in found:
        groups.setdefault(one.operation, []).append(one)
    return groups


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that is not exceeded by at least this share of them (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _milliseconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _operation(fields: Mapping[str, Any]) -> str:
    method, route = fields.get("method"), fields.get("route")
    if not isinstance(method, str) or not isinstance(route, str):
        return "unknown"
    return f"{method} {route.rpartition('}/')[2]}"
