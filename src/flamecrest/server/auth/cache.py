"""Cache of validated tokens, bounded in size; entries are kept until the token expires. Refusals are not cached."""

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
    generation: int  # of the key ring when the key was last found in it
    identity: Identity
    key: Key


class TokenCache:
    """Least-recently-used cache of accepted tokens. An entry is valid until it expires or its key is removed."""

    def __init__(self, ring: KeyRing, size: int) -> None:
        self._ring = ring
        self._size = size
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._characters = 0
        self._swept = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token: str, now: float) -> Identity | None:
        """The identity of a cached token; None if the token is not cached, has expired or has lost its key.

        `now` is in seconds since the epoch.
        """
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
        """Add an accepted token; the least recently used tokens are dropped when the cache is full."""
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
        """Drop expired tokens and those of removed keys: a cache that never fills up would keep them for ever."""
        self._swept = now
        trusted = self._ring.keys.all
        for token in [t for t, e in self._entries.items() if now >= e.until or e.key not in trusted]:
            self._drop(token)

    def _drop(self, token: str) -> None:
        del self._entries[token]
        self._characters -= len(token)

    def __repr__(self) -> str:
        return f"<TokenCache {len(self._entries)} of {self._size} tokens, {self._characters} characters>"
