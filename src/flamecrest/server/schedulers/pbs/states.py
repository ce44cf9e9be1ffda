"""The mapping of PBS's job and node states to those that callers see.

A state that is in no table is shown as UNKNOWN, and counted. It is never an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from flamecrest.server.schedulers.values import Stage

# job_state -> the state that callers see, and the stage. https://openpbs.org, PBS Reference Guide, "Job States"
JOB_STATES: Final = MappingProxyType(
    {
        "Q": ("PENDING", Stage.WAITING),
        "H": ("PENDING", Stage.WAITING),
        "W": ("PENDING", Stage.WAITING),  # for its Execution_Time
        "T": ("PENDING", Stage.WAITING),  # being moved to another server
        "M": ("REVOKED", Stage.ENDED),  # was moved to another server
        "R": ("RUNNING", Stage.RUNNING),
        "B": ("RUNNING", Stage.RUNNING),  # an array of which an element has begun
        "E": ("RUNNING", Stage.RUNNING),  # output is being delivered
        "S": ("SUSPENDED", Stage.RUNNING),
        "U": ("SUSPENDED", Stage.RUNNING),  # the workstation is in use
        "F": ("COMPLETED", Stage.ENDED),
        "X": ("COMPLETED", Stage.ENDED),  # an element that has ended while the array has not
    }
)
_DELETED: Final = 91  # substates
_FAILED: Final = 93
# Exit_status of jobs that PBS has ended for a limit: memory, and time
_KILLED: Final = MappingProxyType({-26: "OUT_OF_MEMORY", -27: "OUT_OF_MEMORY", -28: "TIMEOUT", -29: "TIMEOUT"})
_MAX_SIGNAL: Final = 37  # as a shell reports it: 128 + number

NODE_STATES: Final = MappingProxyType(
    {
        "free": "IDLE",
        "job-busy": "ALLOCATED",
        "job-exclusive": "ALLOCATED",
        "resv-exclusive": "RESERVED",
        "maintenance": "RESERVED",
        "busy": "BUSY",
        "offline": "OFFLINE",
        "down": "DOWN",
        "stale": "DOWN",
        "initializing": "POWERING_UP",
        "provisioning": "POWERING_UP",
        "wait-provisioning": "POWERING_UP",
        "sleep": "POWERING_DOWN",
        "unresolvable": "UNKNOWN",
        "state-unknown": "UNKNOWN",
    }
)


@dataclass(frozen=True, slots=True)
class PbsState:
    """The state that callers see, its stage, how the program ended, and whether JOB_STATES has the state."""

    state: str
    stage: Stage
    exit_code: int | None = None
    signal: int | None = None
    known: bool = True


def parse_job_state(letter: str, *, substate: int | None, status: int | None, started: bool) -> PbsState:
    """The state from job_state, substate and Exit_status; `started` whether the job has run.

    An Exit_status above 256 is a signal, one from 129 on a signal as the user's shell reports it, a negative one an end
    by PBS. A job that ended without one never ran: it was deleted, or a job that it depends on did not end as it must.
    """
    shown, stage = JOB_STATES.get(letter, ("UNKNOWN", Stage.RUNNING if started else Stage.WAITING))
    if letter not in JOB_STATES:
        return PbsState("UNKNOWN", stage, known=False)
    if shown != "COMPLETED":
        return PbsState(shown, stage)
    code, signal = _end(status)
    if substate == _DELETED or status is None:
        return PbsState("CANCELLED", stage, code, signal)
    failed = status != 0 or substate == _FAILED
    return PbsState(_KILLED.get(status, "FAILED") if failed else "COMPLETED", stage, code, signal)


def _end(status: int | None) -> tuple[int | None, int | None]:
    """Exit code and signal of an Exit_status."""
    if status is None or status < 0:
        return None, None
    if status > 256:
        return 0, status - 256
    if 128 < status <= 128 + _MAX_SIGNAL:
        return 0, status - 128
    return status, 0


def parse_node_states(text: str, *, used: bool) -> tuple[str, ...]:
    """Parse `free`, `offline,down` into NodeStates of the wire; UNKNOWN for a state in no table."""
    words = [word.strip() for word in text.lower().split(",")]
    shown = [NODE_STATES.get(word, "UNKNOWN") for word in words if word]
    mixed = ["MIXED" if state == "IDLE" and used else state for state in shown]
    return tuple(dict.fromkeys(mixed)) or ("UNKNOWN",)
