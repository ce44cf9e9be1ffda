"""A field of a job that a scheduler does not have is refused by its name on the wire, and never dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from flamecrest.server.errors import Invalid, Unsupported
from flamecrest.server.schedulers.capabilities import (
    CHANGES,
    JOB_FIELDS,
    Capabilities,
    Operation,
    changed_fields,
    given_fields,
)
from flamecrest.server.schedulers.values import Dependency, DependencyKind, JobChange, JobSpec, Resources

from .capability_table import table

LITTLE = Capabilities(frozenset({"name", "timeLimit", "resources.nodes"}), frozenset({"timeLimit"}), frozenset())


def test_the_fields_have_their_names_on_the_wire() -> None:
    assert {"timeLimit", "dependencies", "standardOutput", "resources.gpusPerNode", "resources.memory"} <= JOB_FIELDS
    assert JOB_FIELDS.isdisjoint({"script", "workingDirectory", "env", "marker", "resources"})
    assert "timeLimit" in CHANGES


def test_only_what_is_given_counts() -> None:
    assert list(given_fields(JobSpec("/w", script="#!/bin/sh\n", marker="m"))) == []
    spec = JobSpec("/w", name="n", hold=False, resources=Resources(gpus=2, exclusive=False))
    assert set(given_fields(spec)) == {"name", "hold", "resources.gpus", "resources.exclusive"}
    assert list(changed_fields(JobChange(dependencies=()))) == ["dependencies"]


def test_every_missing_field_is_named() -> None:
    spec = JobSpec("/w", name="n", qos="q", resources=Resources(nodes=1, gpus=2))
    with pytest.raises(Invalid, match=r"^qos, resources\.gpus: toy has no such field") as caught:
        LITTLE.check_fields(spec, "toy")
    assert [field.name for field in caught.value.fields] == ["qos", "resources.gpus"]
    LITTLE.check_fields(JobSpec("/w", name="n", time_limit=60), "toy")


def test_changes_and_operations_are_checked() -> None:
    LITTLE.check_change(JobChange(time_limit=60), "toy")
    with pytest.raises(Invalid, match="dependencies: toy cannot change"):
        LITTLE.check_change(JobChange(dependencies=[Dependency(DependencyKind.SINGLETON)]), "toy")
    with pytest.raises(Unsupported, match="toy does not support this operation: suspend"):
        LITTLE.check_operation(Operation.SUSPEND, "toy")


def test_the_example_of_a_scheduler_is_as_short_as_the_documentation_says() -> None:
    example = Path(__file__).parents[2] / "contract/schedulers/example_scheduler/dialect.py"
    assert len(example.read_text().splitlines()) < 250


def test_the_table_in_the_documentation_is_that_of_the_code() -> None:
    page = Path(__file__).parents[3] / "docs/schedulers.md"
    shown = page.read_text().partition("<!-- table -->\n")[2].partition("<!-- end -->")[0]
    assert shown == table(), "python -m tests.unit.schedulers.capability_table"
