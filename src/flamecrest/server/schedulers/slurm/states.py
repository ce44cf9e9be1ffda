"""Slurm's words for the states of jobs and nodes, in tables with what callers are shown for them.

An unknown word is reported as such and shown with care; it is never a reason to fail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType

from flamecrest.server.schedulers.merging import Stage

_WORD = re.compile(r"[A-Z][A-Z_]{0,39}")

# https://slurm.schedmd.com/job_state_codes.html: the word, what is shown for it, how far the job has come.
# Clients take every state with an F in it for a final one, so none that is not final may have one.
JOB_STATES = MappingProxyType(
    {
        "PENDING": ("PENDING", Stage.WAITING),
        "CONFIGURING": ("PENDING", Stage.WAITING),  # nodes are still booting
        "EXPEDITING": ("PENDING", Stage.WAITING),
        "POWER_UP_NODE": ("PENDING", Stage.WAITING),
        "REQUEUED": ("PENDING", Stage.WAITING),  # the run that ended is over, the job is not
        "REQUEUE_FED": ("PENDING", Stage.WAITING),
        "REQUEUE_HOLD": ("PENDING", Stage.WAITING),
        "RESV_DEL_HOLD": ("PENDING", Stage.WAITING),
        "SPECIAL_EXIT": ("PENDING", Stage.WAITING),  # requeued and held
        "LAUNCH_FAILED": ("PENDING", Stage.WAITING),  # a flag of a job that goes back to the queue
        "RECONFIG_FAIL": ("PENDING", Stage.WAITING),  # the same
        "RUNNING": ("RUNNING", Stage.RUNNING),
        "COMPLETING": ("RUNNING", Stage.RUNNING),  # epilogs run, the nodes are still taken
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

# For an array as a whole: the worst end of its elements, mildest first. Words that are not here count as worse.
_MILD_TO_SEVERE = ("COMPLETED", "REVOKED", "CANCELLED", "PREEMPTED", "DEADLINE", "TIMEOUT", "OUT_OF_MEMORY", "FAILED")

# https://slurm.schedmd.com/sinfo.html#SECTION_NODE-STATE-CODES: long and short words -> the wire's NodeState.
NODE_STATES = MappingProxyType(
    {
        "idle": "IDLE",
        "planned": "IDLE",  # free until the job it is planned for starts
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
        "failing": "DRAIN",  # its jobs run on, no new one starts
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
NODE_STATE_FLAGS = MappingProxyType(
    {
        "*": "OFFLINE",  # does not respond
        "~": "OFFLINE",
        "#": "POWERING_UP",
        "%": "POWERING_DOWN",
        "!": "POWERING_DOWN",
        "$": "RESERVED",
        "^": "DOWN",
        "@": None,  # a reboot is wanted, the node works on
        "-": None,
    }
)


@dataclass(frozen=True, slots=True)
class JobState:
    """What a caller is shown, how far the job has come, who cancelled it (a uid), and whether the word is known."""

    state: str
    stage: Stage
    cancelled_by: str | None = None
    known: bool = True


def parse_job_state(text: str, *, started: bool, ended: bool) -> JobState:
    """Read `RUNNING`, `CANCELLED by 1001`; `started` and `ended` tell how far a job in an unknown state has come."""
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
    """How bad an end is, to choose the one that stands for a whole array."""
    return _MILD_TO_SEVERE.index(state) if state in _MILD_TO_SEVERE else len(_MILD_TO_SEVERE)


def parse_node_states(text: str) -> tuple[str, ...]:
    """The wire's words for `idle`, `mixed-`, `down*`, `idle+drain`; UNKNOWN where the table has none."""
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
