"""The counters and gauges of a gateway, in one registry: components register them, reports read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CounterSource:
    """The counters of one component (`pool`, `scheduler`, `authenticator`). `read` returns their values by name.

    `cluster` is None for a component that all clusters share.
    """

    cluster: str | None
    component: str
    read: Callable[[], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Counters:
    """The registered sources, in the order of their registration."""

    _sources: list[CounterSource] = field(default_factory=list)

    def register(self, cluster: str | None, component: str, read: Callable[[], Mapping[str, int]]) -> None:
        """Add a source. `read` is called from the event loop and must not block."""
        self._sources.append(CounterSource(cluster, component, read))

    def __iter__(self) -> Iterator[CounterSource]:
        return iter(self._sources)
