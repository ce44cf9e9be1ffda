"""The state of a transfer from that of its job."""

from __future__ import annotations

import pytest

from flamecrest.server.schedulers.slurm.states import JOB_STATES
from flamecrest.server.schedulers.values import Job, Stage
from flamecrest.server.transfer.tracking.view import state_of


@pytest.mark.parametrize(
    ("state", "stage", "shown"),
    [
        ("PENDING", Stage.WAITING, "PENDING"),
        ("STAGE_OUT", Stage.RUNNING, "RUNNING"),
        ("DREAMING", Stage.WAITING, "PENDING"),
        ("DREAMING", Stage.RUNNING, "RUNNING"),
        ("DREAMT", Stage.ENDED, "FAILED"),
        ("COMPLETED", Stage.ENDED, "COMPLETED"),
        ("PREEMPTED", Stage.ENDED, "FAILED"),
        ("DEADLINE", Stage.ENDED, "TIMEOUT"),
    ],
)
def test_states(state: str, stage: Stage, shown: str) -> None:
    assert state_of(Job("1", "job", state, stage)) == shown


def test_a_transfer_ends_when_its_job_does() -> None:
    for state, stage in JOB_STATES.values():
        under_way = state_of(Job("1", "job", state, stage)) in {"PENDING", "RUNNING"}
        assert under_way is (stage is not Stage.ENDED), state
