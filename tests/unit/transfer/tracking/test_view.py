"""The state of a transfer from that of its job."""

from __future__ import annotations

import pytest

from flamecrest.server.schedulers.slurm.states import JOB_STATES
from flamecrest.server.schedulers.values import Job, Stage
from flamecrest.server.transfer.records.names import RecordFiles, new_id
from flamecrest.server.transfer.records.record import End, Progress, Record
from flamecrest.server.transfer.tracking.view import hint, state_of, view


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


@pytest.mark.parametrize("before", ["", "Job 12: "])
@pytest.mark.parametrize(
    "reason",
    [
        "ReqNodeNotAvail, UnavailableNodes:node[1-3]",
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
        "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions",
    ],
)
def test_one_that_waits_for_nodes_says_so(before: str, reason: str) -> None:
    record = Record("cp", "internal", "/a", 1, job_id="12")
    shown = view(RecordFiles(b"/r", new_id(60)), record, "PENDING", None, None, before + reason, None)
    assert (shown.error, shown.reason) == (None, before + reason)
    assert "Nodes are down or reserved" in (shown.hint or "")
    running = view(RecordFiles(b"/r", new_id(60)), record, "RUNNING", None, None, None, None)
    assert (running.reason, running.hint) == (None, None)


@pytest.mark.parametrize(
    ("record", "progress", "shown"),
    [
        (Record("s3", "upload", "/a", 1, size=9), Progress(2, done=5, total=9, job_id="1"), (9, 9, None)),
        (Record("direct", "upload", "/a", 1, size=0), None, (0, None, None)),
        (Record("streamer", "upload", "/a", 1), Progress(2, done=5, total=5), (5, 5, None)),
        (Record("cp", "internal", "/a", 1, job_id="1"), None, (None, None, None)),
        (Record("sync", "internal", "/a", 1), Progress(2, done=5, total=9, files=3), (5, 9, 3)),
    ],
)
def test_bytes_of_a_transfer_that_was_completed(
    record: Record, progress: Progress | None, shown: tuple[int | None, ...]
) -> None:
    seen = view(RecordFiles(b"/r", new_id(60)), record, "COMPLETED", End("COMPLETED", 3), progress, None, None)
    assert (seen.done, seen.total, seen.files) == shown


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("Unable to extract files: gzip: stdin: not in gzip format", "Check that the archive is whole"),
        ("Unable to extract files: tar: Unexpected EOF in archive", "Check that the archive is whole"),
        ("The job has reached its time limit.", "Transfer less at once"),
        ("The file became shorter while it was read", "when nothing writes to the files"),
        ("The target is not a regular file any more.", "Look what is at the target's path"),
        ("upload: /a: Is a directory. The older file at its place is unchanged.", "Look what is at the target's path"),
        ("The target or its folder was renamed or removed meanwhile.", "Choose a path in a folder that exists"),
        ("Unable to upload the file: The code is not that of the other side. Begin again.", "Begin a new transfer"),
        ("The job was cancelled.", None),
    ],
)
def test_hints(error: str, advice: str | None) -> None:
    found = hint(error)
    assert (found is None) is (advice is None)
    assert (advice or "") in (found or "")
