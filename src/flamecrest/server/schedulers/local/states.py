"""The states of the local scheduler's jobs: those that its program writes, with their stages."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from flamecrest.server.schedulers.values import Stage

# The final ones from mild to severe: the state of a whole array is the most severe of its elements.
JOB_STATES: Final = MappingProxyType({
    "PENDING": Stage.WAITING,
    "RUNNING": Stage.RUNNING,
    "SUSPENDED": Stage.RUNNING,
    "COMPLETED": Stage.ENDED,
    "CANCELLED": Stage.ENDED,
    "TIMEOUT": Stage.ENDED,
    "OUT_OF_MEMORY": Stage.ENDED,
    "FAILED": Stage.ENDED,
    "NODE_FAIL": Stage.ENDED,
})  # fmt: skip
_ORDER: Final = tuple(JOB_STATES)


def stage_of(state: str, *, ended: bool) -> Stage:
    """The stage of a state. The journal is a file of the user's: one that nobody knows is no error."""
    return JOB_STATES.get(state, Stage.ENDED if ended else Stage.WAITING)


def severity(state: str) -> int:
    """The place of a state in that order; an unknown one is the most severe."""
    return _ORDER.index(state) if state in _ORDER else len(_ORDER)
