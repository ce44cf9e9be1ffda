"""Counters of the questions to a scheduler, and of the failures that its adapter recovers from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

_MAX_STATES: Final = 100  # distinct unknown states that are counted by name, for each source


@dataclass(frozen=True, slots=True)
class SchedulerCounters:
    """The counters of one cluster's scheduler; they only grow.

    `failures` counts by operation (`live`, `history`, `script`, `accounts`): it failed, and the request was
    answered without it or from another source. `unreadable_rows` and `unknown_states` count by source.
    `asked` counts the questions that were put to the scheduler, by kind (`queue`, `job`, `history`, `nodes`); `saved`
    the requests that were served by the answer to an earlier question, or of one in flight.
    """

    failures: Counter[str] = field(default_factory=Counter)
    unreadable_rows: Counter[str] = field(default_factory=Counter)
    unknown_states: dict[str, Counter[str]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    saved: Counter[str] = field(default_factory=Counter)

    def count_unknown_states(self, source: str, states: Iterable[str]) -> None:
        """Count each state by its name; beyond 100 names per source, as `other`."""
        counted = self.unknown_states.setdefault(source, Counter())
        for state in states:
            counted[state if state in counted or len(counted) < _MAX_STATES else "other"] += 1

    def read(self) -> dict[str, int]:
        """All counters by name: `history.failures`, `live.unknown_states.DRIFTING`, `queue.asked`, `queue.saved`."""
        return {
            **{f"{operation}.failures": number for operation, number in self.failures.items()},
            **{f"{source}.unreadable_rows": number for source, number in self.unreadable_rows.items()},
            **{
                f"{source}.unknown_states.{state}": number
                for source, states in self.unknown_states.items()
                for state, number in states.items()
            },
            **{f"{kind}.asked": number for kind, number in self.asked.items()},
            **{f"{kind}.saved": number for kind, number in self.saved.items()},
        }
