"""Contract cases that are selected by capability: a case says what it needs, an adapter what it can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import pytest

Case = TypeVar("Case", bound=Callable[..., object])


def needs(*capabilities: str) -> Callable[[Case], Case]:
    """Run the case over those adapters only that declare all of these capabilities."""

    def mark(case: Case) -> Case:
        case.needs = frozenset(capabilities)  # type: ignore[attr-defined]
        return case

    return mark


def parametrize(metafunc: pytest.Metafunc, adapters: Mapping[str, frozenset[str]]) -> None:
    """Run each case that has a `place` over the adapters that can do what it needs; `live` ones are marked so."""
    if "place" not in metafunc.fixturenames:
        return
    needed: frozenset[str] = getattr(metafunc.function, "needs", frozenset())
    chosen = [name for name, capabilities in adapters.items() if needed <= capabilities]
    assert chosen, f"no adapter can do {sorted(needed)}"
    metafunc.parametrize("place", list(_marked(chosen)), indirect=True, scope="module")


def _marked(names: list[str]) -> Iterator[object]:
    for name in names:
        yield pytest.param(name, marks=pytest.mark.live if name.startswith("live") else ())
