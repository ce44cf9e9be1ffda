"""The mapping of the states of jobs and nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.schedulers.pbs.states import JOB_STATES as PBS_STATES
from flamecrest.server.schedulers.slurm.states import JOB_STATES, JobState, parse_job_state, parse_node_states, severity
from flamecrest.server.schedulers.values import SHOWN_STATES, Stage

from .recorded import output

WIRE = {"IDLE", "ALLOCATED", "MIXED", "DOWN", "DRAIN", "OFFLINE", "RESERVED", "COMPLETING", "BUSY"}
WIRE |= {"POWERING_DOWN", "POWERING_UP", "UNKNOWN"}


@pytest.mark.parametrize("name", ["317-sacct-starttime-end", "319-sacct-state-filter"])
def test_every_recorded_word_is_known(name):
    cells = [line.split("|")[1] for line in output(name).text().splitlines()[1:]]
    states = [parse_job_state(cell, started=True, ended=True) for cell in cells]
    assert len(states) > 20
    assert all(state.known for state in states)
    assert {state.state for state in states} <= {"CANCELLED", "COMPLETED", "FAILED"}
    assert {state.cancelled_by for state in states if state.state == "CANCELLED"} == {None, "0"}


def test_states_that_lists_can_be_filtered_by():
    tables = (JOB_STATES, PBS_STATES)
    assert {state for table in tables for state, _ in table.values()} <= SHOWN_STATES


def test_nothing_that_goes_on_has_an_f_in_it():
    for word in JOB_STATES:
        state = parse_job_state(word, started=False, ended=False)
        assert state.known
        assert state.stage is Stage.ENDED or "F" not in state.state


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("RUNNING", JobState("RUNNING", Stage.RUNNING)),
        ("CANCELLED by 1001", JobState("CANCELLED", Stage.ENDED, "1001")),
        ("CANCELLED+", JobState("CANCELLED", Stage.ENDED)),
        ("COMPLETING", JobState("RUNNING", Stage.RUNNING)),
        ("CONFIGURING", JobState("PENDING", Stage.WAITING)),
        ("REQUEUED", JobState("PENDING", Stage.WAITING)),
        ("NODE_FAIL", JobState("NODE_FAIL", Stage.ENDED)),
    ],
)
def test_words(cell, expected):
    assert parse_job_state(cell, started=True, ended=False) == expected


@pytest.mark.parametrize(
    ("cell", "started", "ended", "shown", "stage"),
    [
        ("DREAMING", False, False, "DREAMING", Stage.WAITING),
        ("DREAMING", True, False, "DREAMING", Stage.RUNNING),
        ("DREAMING", True, True, "DREAMING", Stage.ENDED),
        ("DRIFTING", False, False, "PENDING", Stage.WAITING),
        ("DRIFTING", True, False, "RUNNING", Stage.RUNNING),
        ("DRIFT_FAIL", True, True, "DRIFT_FAIL", Stage.ENDED),
        ("<script>", True, True, "UNKNOWN", Stage.ENDED),
        ("", False, False, "UNKNOWN", Stage.WAITING),
    ],
)
def test_unknown_words(cell, started, ended, shown, stage):
    assert parse_job_state(cell, started=started, ended=ended) == JobState(shown, stage, known=False)


@given(st.text(max_size=40), st.booleans(), st.booleans())
def test_no_word_misleads_a_client(cell, started, ended):
    state = parse_job_state(cell, started=started, ended=ended)
    assert state.stage is Stage.ENDED or "F" not in state.state
    assert state.state == state.state.upper()
    assert len(state.state) <= 40


def test_the_worst_end_stands_for_an_array():
    words = ["FAILED", "COMPLETED", "TIMEOUT", "CANCELLED"]
    assert sorted(words, key=severity) == ["COMPLETED", "CANCELLED", "TIMEOUT", "FAILED"]
    assert severity("NODE_FAIL") > severity("FAILED")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("idle", ("IDLE",)),
        ("reserved", ("RESERVED",)),
        ("allocated+", ("ALLOCATED", "COMPLETING")),
        ("mixed", ("MIXED",)),
        ("mixed*", ("MIXED", "OFFLINE")),
        ("mixed-", ("MIXED",)),
        ("down*", ("DOWN", "OFFLINE")),
        ("drained", ("DRAIN",)),
        ("draining@", ("DRAIN",)),
        ("drng", ("DRAIN",)),
        ("idle~", ("IDLE", "OFFLINE")),
        ("idle#", ("IDLE", "POWERING_UP")),
        ("idle%", ("IDLE", "POWERING_DOWN")),
        ("idle!", ("IDLE", "POWERING_DOWN")),
        ("maint$", ("RESERVED",)),
        ("reboot^", ("DOWN",)),
        ("planned", ("IDLE",)),
        ("powered_down", ("OFFLINE",)),
        ("powering_up", ("POWERING_UP",)),
        ("idle+drain", ("IDLE", "DRAIN")),
        ("idle+reserved", ("IDLE", "RESERVED")),
        ("DOWN", ("DOWN",)),
        ("shiny", ("UNKNOWN",)),
        ("", ("UNKNOWN",)),
    ],
)
def test_nodes(cell, expected):
    assert parse_node_states(cell) == expected


@given(st.text(max_size=30))
def test_a_node_has_only_states_of_the_wire(cell):
    assert set(parse_node_states(cell)) <= WIRE
    assert parse_node_states(cell)
