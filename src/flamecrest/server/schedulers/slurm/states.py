"""The mapping of Slurm's job and node states to those that callers see: JOB_STATES and NODE_STATES.

A state that is in no table is passed on or shown as UNKNOWN, and counted. It is never an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from flamecrest.server.schedulers.values import Stage

from .fields import REMEMBERED

_WORD = re.compile(r"[A-Z][A-Z_]{0,39}")

# Slurm's job state -> the state that callers see, and the stage. https://slurm.schedmd.com/job_state_codes.html
# Clients take each state that contains an F as final, so no other state may contain one.
JOB_STATES = MappingProxyType(
    {
        "PENDING": ("PENDING", Stage.WAITING),
        "CONFIGURING": ("PENDING", Stage.WAITING),  # nodes are still booting
        "EXPEDITING": ("PENDING", Stage.WAITING),
        "POWER_UP_NODE": ("PENDING", Stage.WAITING),
        "REQUEUED": ("PENDING", Stage.WAITING),  # one run has ended, the job has not
        "REQUEUE_FED": ("PENDING", Stage.WAITING),
        "REQUEUE_HOLD": ("PENDING", Stage.WAITING),
        "RESV_DEL_HOLD": ("PENDING", Stage.WAITING),
        "SPECIAL_EXIT": ("PENDING", Stage.WAITING),  # requeued and held
        "LAUNCH_FAILED": ("PENDING", Stage.WAITING),  # a flag of a job that returns to the queue
        "RECONFIG_FAIL": ("PENDING", Stage.WAITING),  # the same
        "RUNNING": ("RUNNING", Stage.RUNNING),
        "COMPLETING": ("RUNNING", Stage.RUNNING),  # epilogs run, the nodes are still allocated
        "RESIZING": ("RUNNING", Stage.RUNNING),
        "SIGNALING": ("RUNNING", Stage.RUNNING),
        "STAGE_OUT": ("STAGE_OUT", Stage.RUNNING),
        "STOPPED": ("STOPPED", Stage.RUNNING),
        "SUSPENDED": ("SUSPENDED", Stage.RUNNING),
        "UPDATE_DB": ("RUNNING", Stage.RUNNING),
        "BOOT_FAIL": ("BOOT_FAIL", Stage.ENDED),
        "CANCELLED": ("CANCELLED", Stage.ENDED),
        "COMPLETED": ("COMPLETED", Stage.ENDED),
        "DEADLINE": ("DEADLINE", Stage.ENDED),
        "FAILED": ("FAILED", Stage.ENDED),
        "NODE_FAIL": ("NODE_FAIL", Stage.ENDED),
        "OUT_OF_MEMORY": ("OUT_OF_MEMORY", Stage.ENDED),
        "PREEMPTED": ("PREEMPTED", Stage.ENDED),
        "REVOKED": ("REVOKED", Stage.ENDED),
        "TIMEOUT": ("TIMEOUT", Stage.ENDED),
    }
)

# Final states by severity, for the state of a whole array. States that are not listed are more severe.
_MILD_TO_SEVERE = ("COMPLETED", "REVOKED", "CANCELLED", "PREEMPTED", "DEADLINE", "TIMEOUT", "OUT_OF_MEMORY", "FAILED")

# Slurm's node state, long or short -> NodeState of the wire.
# https://slurm.schedmd.com/sinfo.html#SECTION_NODE-STATE-CODES
NODE_STATES = MappingProxyType(
    {
        "idle": "IDLE",
        "planned": "IDLE",  # idle until the job that it is planned for starts
        "plnd": "IDLE",
        "allocated": "ALLOCATED",
        "alloc": "ALLOCATED",
        "mixed": "MIXED",
        "mix": "MIXED",
        "completing": "COMPLETING",
        "comp": "COMPLETING",
        "down": "DOWN",
        "error": "DOWN",
        "fail": "DOWN",
        "inval": "DOWN",
        "reboot": "DOWN",
        "rebooting": "DOWN",
        "reboot_issued": "DOWN",
        "drain": "DRAIN",
        "drained": "DRAIN",
        "draining": "DRAIN",
        "drng": "DRAIN",
        "failing": "DRAIN",  # running jobs continue, no new job starts
        "failg": "DRAIN",
        "maint": "RESERVED",
        "reserved": "RESERVED",
        "resv": "RESERVED",
        "blocked": "BUSY",
        "block": "BUSY",
        "perfctrs": "BUSY",
        "npc": "BUSY",
        "future": "OFFLINE",
        "futr": "OFFLINE",
        "powered_down": "OFFLINE",
        "power_down": "POWERING_DOWN",
        "powering_down": "POWERING_DOWN",
        "pow_dn": "POWERING_DOWN",
        "power_up": "POWERING_UP",
        "powering_up": "POWERING_UP",
        "pow_up": "POWERING_UP",
        "unknown": "UNKNOWN",
        "unk": "UNKNOWN",
        "no_respond": "UNKNOWN",
    }
)
# The flag behind a node state -> an additional NodeState.
NODE_STATE_FLAGS = MappingProxyType(
    {
        "*": "OFFLINE",  # does not respond
        "~": "OFFLINE",
        "#": "POWERING_UP",
        "%": "POWERING_DOWN",
        "!": "POWERING_DOWN",
        "$": "RESERVED",
        "^": "DOWN",
        "@": None,  # a reboot is pending, the node still works
        "-": None,
    }
)


@dataclass(frozen=True, slots=True)
class JobState:
    """The state that callers see, its stage, the uid that cancelled the job, and whether JOB_STATES has the state."""

    state: str
    stage: Stage
    cancelled_by: str | None = None
    known: bool = True


@lru_cache(REMEMBERED)
def parse_job_state(text: str, *, started: bool, ended: bool) -> JobState:
    """Parse `RUNNING`, `CANCELLED by 1001`. `started` and `ended` give the stage of an unknown state.

    Only the accounting says `ended`: a job that the queue knows in an unknown state may go on.
    """
    word, _, rest = text.strip().partition(" ")
    word = word.upper().rstrip("+")
    by = rest.removeprefix("by ").strip() if rest.startswith("by ") else None
    if word in JOB_STATES:
        shown, stage = JOB_STATES[word]
        return JobState(shown, stage, by)
    stage = Stage.ENDED if ended else Stage.RUNNING if started else Stage.WAITING
    if not _WORD.fullmatch(word):
        word = "UNKNOWN"
    if "F" in word and stage is not Stage.ENDED:
        word = "RUNNING" if started else "PENDING"
    return JobState(word, stage, by, known=False)


def severity(state: str) -> int:
    """The severity of a final state; that of a whole array is the highest of its elements."""
    return _MILD_TO_SEVERE.index(state) if state in _MILD_TO_SEVERE else len(_MILD_TO_SEVERE)


def parse_node_states(text: str) -> tuple[str, ...]:
    """Parse `idle`, `mixed-`, `down*`, `idle+drain` into NodeStates of the wire; UNKNOWN for a state in no table."""
    shown: list[str] = []
    parts = text.strip().lower().split("+")
    for part in parts:
        word = part.rstrip("".join(NODE_STATE_FLAGS))
        if word or len(parts) == 1:
            shown.append(NODE_STATES.get(word, "UNKNOWN"))
        shown += [state for flag in part[len(word) :] if (state := NODE_STATE_FLAGS[flag])]
    if text.strip().endswith("+"):  # `allocated+`: some of its jobs are completing
        shown.append("COMPLETING")
    return tuple(dict.fromkeys(shown))
