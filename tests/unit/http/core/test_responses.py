"""The fields that responses are built from are those of their wire models, in the same order."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from flamecrest.server.files.values import ListingEntry, Stat
from flamecrest.server.http import compute, status
from flamecrest.server.http.core.responses import file_entry, file_stat, plain_file_entries
from flamecrest.server.http.jobs import shown
from flamecrest.server.schedulers.values import Job, JobMetadata, JobStep, JobTimes, Node, Reservation
from flamecrest.wire import compute as wire_compute
from flamecrest.wire import filesystem as wire_files
from flamecrest.wire import status as wire_status
from flamecrest.wire.casing import WireModel

ENTRY = ListingEntry("f", "-", "rw-r--r--", "ann", "staff", 1, "2026-01-01T00:00:00")
TIMES = JobTimes(1, 2, 3, 4, 5)


def filled(kind: Any, **fields: Any) -> Any:
    """A value of the class; arguments that are not given are texts."""
    return kind(**{name: fields.get(name, "x") for name in inspect.signature(kind).parameters})


STEP = filled(JobStep, times=TIMES, exit_code=0, signal=0)
JOB = filled(Job, usage=None, times=TIMES, steps=[STEP], exit_code=0, signal=0, node_count=1, priority=1)
SHAPES = [
    (file_stat(filled(Stat)), wire_files.FileStat),
    (plain_file_entries([ENTRY])[0], wire_files.File),
    (file_entry(ENTRY), wire_files.File),
    (file_entry(ENTRY._replace(name="\udcff")), wire_files.File),
    (shown.show_job(JOB), wire_compute.JobModel),
    (shown.show_job(JOB)["time"], wire_compute.JobTime),
    (shown.show_job(JOB)["status"], wire_compute.JobStatus),
    (shown.show_job(JOB)["tasks"][0], wire_compute.JobTask),
    (compute._metadata(filled(JobMetadata)), wire_compute.JobMetadataModel),
    (status._node(filled(Node, states=(), partitions=())), wire_status.NodeModel),
    (status._reservation(filled(Reservation)), wire_status.ReservationModel),
]


@pytest.mark.parametrize(
    ("shape", "model"), SHAPES, ids=[f"{at}-{model.__name__}" for at, (_, model) in enumerate(SHAPES)]
)
def test_a_response_has_the_fields_of_its_wire_model(shape: dict[str, Any], model: type[WireModel]) -> None:
    aliases = [info.serialization_alias or info.alias for info in model.model_fields.values()]
    assert list(shape) == [alias for alias in aliases if alias != "encoding" or "encoding" in shape]
