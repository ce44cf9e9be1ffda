"""The counters and gauges of a gateway, in one registry: components register them, reports and metrics read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class CounterSource:
    """The counters of one component (`pool`, `scheduler`, `authenticator`). `read` returns their values by name.

    `cluster` is None for a component that all clusters share.
    """

    cluster: str | None
    component: str
    read: Callable[[], Mapping[str, int]]


class Sample(NamedTuple):
    """A value of a metric of catalog.py, with the values of its labels in the catalog's order."""

    metric: str
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Counters:
    """The registered sources, in the order of their registration.

    `parts` are the sources of each cluster, which come and go with it.
    """

    _sources: list[CounterSource] = field(default_factory=list)
    _measured: list[Callable[[], Iterable[Sample]]] = field(default_factory=list)
    parts: dict[str, Counters] = field(default_factory=dict)

    @property
    def measured(self) -> list[Callable[[], Iterable[Sample]]]:
        """Sources of metrics that are no plain counters, such as the health of services."""
        return [*self._measured, *(read for part in self.parts.values() for read in part.measured)]

    def register(self, cluster: str | None, component: str, read: Callable[[], Mapping[str, int]]) -> None:
        """Add a source. `read` is called from the event loop and must not block."""
        self._sources.append(CounterSource(cluster, component, read))

    def measure(self, read: Callable[[], Iterable[Sample]]) -> None:
        """Add a source of samples. `read` is called from the event loop and must not block."""
        self._measured.append(read)

    def __iter__(self) -> Iterator[CounterSource]:
        yield from self._sources
        for part in self.parts.values():
            yield from part
