"""Validated tokens, kept until they expire, in bounded memory. It holds what was accepted, never what was refused."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .keyring import KeyRing
    from .keys import Key
    from .port import Identity

_MAX_CHARACTERS = 16 * 1024 * 1024  # of all tokens together
_SWEEP_EVERY = 60.0  # seconds


class _Entry(NamedTuple):
    until: float
    generation: int  # of the key ring, when the key was last seen in it
    identity: Identity
    key: Key


class TokenCache:
    """The tokens that were accepted last, each while its time lasts and its key is among those trusted."""

    def __init__(self, ring: KeyRing, size: int) -> None:
        self._ring = ring
        self._size = size
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._characters = 0
        self._swept = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token: str, now: float) -> Identity | None:
        """Whom a token named when it was validated, if it is still good."""
        entry = self._entries.get(token)
        if entry is None:
            return None
        if now >= entry.until:
            self._drop(token)
            return None
        if entry.generation != self._ring.generation:
            if entry.key not in self._ring.keys.all:
                self._drop(token)
                return None
            self._entries[token] = entry._replace(generation=self._ring.generation)
        self._entries.move_to_end(token)
        return entry.identity

    def put(self, token: str, identity: Identity, *, until: float, key: Key, now: float) -> None:
        """Keep an accepted token, at the cost of those that were not asked for the longest."""
        if abs(now - self._swept) >= _SWEEP_EVERY:
            self._sweep(now)
        if token in self._entries:
            self._drop(token)
        self._entries[token] = _Entry(until, self._ring.generation, identity, key)
        self._characters += len(token)
        while len(self._entries) > self._size or self._characters > _MAX_CHARACTERS:
            oldest, _ = self._entries.popitem(last=False)
            self._characters -= len(oldest)

    def _sweep(self, now: float) -> None:
        """Forget what can't be used any more, so that no old token stays in memory for the want of others."""
        self._swept = now
        trusted = self._ring.keys.all
        for token in [t for t, e in self._entries.items() if now >= e.until or e.key not in trusted]:
            self._drop(token)

    def _drop(self, token: str) -> None:
        del self._entries[token]
        self._characters -= len(token)

    def __repr__(self) -> str:
        return f"<TokenCache {len(self._entries)} of {self._size} tokens, {self._characters} characters>"
