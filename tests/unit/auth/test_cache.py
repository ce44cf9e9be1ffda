"""Bounds of the token cache; every entry in it is still valid."""

from __future__ import annotations

import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flamecrest.sandbox.issuer import SigningKey
from flamecrest.server.auth.keyring import KeyRing
from flamecrest.server.auth.keys import Key, KeySet, read_keys
from flamecrest.server.auth.oidc import TokenCache
from flamecrest.server.auth.port import Identity


def new_key(kid: str) -> Key:
    import json

    keys, _ = read_keys(json.dumps(SigningKey.generate("EdDSA", kid).jwk()).encode())
    return keys[0]


KEYS = [new_key(kid) for kid in "abc"]


def ring() -> KeyRing:
    ring = KeyRing([], refresh=600, max_age=86400, monotonic=time.monotonic)
    ring.keys = KeySet(KEYS)
    return ring


def test_huge_tokens_are_few():
    cache = TokenCache(ring(), size=10_000)
    for n in range(1500):
        cache.put(f"{n:016384}", Identity("ann"), until=10, key=KEYS[0], now=0)
    assert len(cache) == 1024
    assert cache.get(f"{1499:016384}", 5) is not None
    assert cache.get(f"{0:016384}", 5) is None


def test_a_token_put_twice_counts_once():
    cache = TokenCache(ring(), size=10)
    for _ in range(3):
        cache.put("token", Identity("ann"), until=10, key=KEYS[0], now=0)
    assert repr(cache) == "<TokenCache 1 of 10 tokens, 5 characters>"


class Cache(RuleBasedStateMachine):
    """Compare the cache with a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = ring()
        self.cache = TokenCache(self.ring, size=4)
        self.put: dict[str, tuple[Identity, float, Key]] = {}
        self.now = 0.0

    @rule(token=st.sampled_from("stuvwxyz"), life=st.integers(1, 200), key=st.integers(0, 2))
    def accept(self, token: str, life: int, key: int) -> None:
        if KEYS[key] in self.ring.keys.all:
            identity = Identity(token, expires=self.now + life)
            self.cache.put(token, identity, until=self.now + life, key=KEYS[key], now=self.now)
            self.put[token] = (identity, self.now + life, KEYS[key])
            assert self.cache.get(token, self.now) is identity

    @rule(token=st.sampled_from("stuvwxyz"))
    def look(self, token: str) -> None:
        found = self.cache.get(token, self.now)
        if found is not None:
            identity, until, key = self.put[token]
            assert found is identity
            assert self.now < until
            assert key in self.ring.keys.all

    @rule(seconds=st.integers(1, 100))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(kept=st.sets(st.integers(0, 2)))
    @precondition(lambda self: self.put)
    def rotate(self, kept: set[int]) -> None:
        self.ring.keys = KeySet(KEYS[n] for n in kept)
        self.ring.generation += 1

    @invariant()
    def bounded(self) -> None:
        assert len(self.cache) <= 4
        assert f", {len(self.cache)} characters>" in repr(self.cache)


TestCache = Cache.TestCase
TestCache.settings = settings(max_examples=25, stateful_step_count=30)
pytestmark = pytest.mark.filterwarnings("error")
