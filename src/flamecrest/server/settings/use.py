"""How a setting is used. Every field declares one of these, itself or by its section (`Section.USE`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadBy:
    """The setting takes effect: this package or module below `flamecrest` reads it."""

    reader: str


@dataclass(frozen=True, slots=True)
class NoEffect:
    """The setting is accepted and ignored in this version; the start warns about it by name."""

    reason: str


Use = ReadBy | NoEffect
