"""The Accept header (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

_QUALITY: Final = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


def acceptable(header: str | None, offered: Sequence[str], aliases: Mapping[str, str]) -> list[str]:
    """The offered media types that are accepted, by descending quality; equal ones in the offered order."""
    if header is None or not header.strip():
        return list(offered)
    ranges: dict[str, float] = {}
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        if name and _QUALITY.fullmatch(quality):
            ranges[aliases.get(name, name)] = float(quality)
    qualities = {name: ranges.get(name, ranges.get(_family(name), ranges.get("*/*", 0.0))) for name in offered}
    return sorted((name for name in offered if qualities[name] > 0), key=lambda name: -qualities[name])


def _family(name: str) -> str:
    return name.partition("/")[0] + "/*"
