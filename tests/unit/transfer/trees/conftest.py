"""Two folders on the sandbox's SSH server, and synchronizations between them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.ssh.port import Session
from flamecrest.server.ssh.session import PooledSessions
from flamecrest.server.transfer.trees.compare import CompareOptions
from flamecrest.server.transfer.trees.patterns import Filter
from flamecrest.server.transfer.trees.sync import Place, Report, Synchronization, steps
from tests.unit.ssh.conftest import accelerate, world  # noqa: F401 -- fixtures

OLD = 1_500_000_000


def options(**given: Any) -> CompareOptions:
    include, exclude = given.pop("include", ()), given.pop("exclude", ())
    return CompareOptions(filter=Filter.of(include, exclude), **given)


@dataclass
class Folders:
    """A source and a target, on one cluster or on two."""

    source: Path
    target: Path
    session: Session
    same_cluster: bool

    async def sync(self, **given: Any) -> Report:
        return await self.synchronization(**given).run()

    def synchronization(self, **given: Any) -> Synchronization:
        return Synchronization(*self.places, options(**given), same_cluster=self.same_cluster)

    @property
    def places(self) -> tuple[Place, Place]:
        other = "one" if self.same_cluster else "two"
        return Place(self.session, os.fsencode(self.source), "one"), Place(
            self.session, os.fsencode(self.target), other
        )

    async def plan(self, **given: Any) -> list[tuple[str, str]]:
        async with steps(*self.places, options(**given), sweep=False) as found:
            return [(step.verb, os.fsdecode(step.path)) async for step in found]


@pytest.fixture(params=["one cluster", "two clusters"])
async def folders(request: pytest.FixtureRequest, world: Any) -> AsyncIterator[Folders]:  # noqa: F811 -- the fixture
    source, target = world.root / "source", world.root / "target"
    source.mkdir()
    target.mkdir()
    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        yield Folders(source, target, session, request.param == "one cluster")


@pytest.fixture
def write() -> Callable[..., Path]:
    """Write a file with an old time."""

    def make(path: Path, content: bytes = b"content", when: float = OLD) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (when, when))
        return path

    return make
