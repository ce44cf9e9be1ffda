"""Records of transfers are read from files that their user may have changed."""

import json
from dataclasses import replace

import pytest

from flamecrest.server.errors import Conflict
from flamecrest.server.transfer.direct.parts import plan_of
from flamecrest.server.transfer.records.record import End, Progress, Record

RECORD = Record("sync", "internal", "/a\udcff", 1, 2, "/b", job_id="7", details={"delete": 1, "system": "other"})


def test_a_record_comes_back() -> None:
    assert Record.parse(RECORD.packed()) == RECORD


def test_the_end_comes_back() -> None:
    end = End("FAILED", 5, error="disk full")
    assert End.parse(end.packed()) == end
    assert End.parse(b'{"state": "CANCELLED", "at": 1, "later": 1}') == End("CANCELLED", 1)


def test_progress_comes_back() -> None:
    progress = Progress(5, 1, 2, 3, "77")
    assert Progress.parse(progress.packed()) == progress


@pytest.mark.parametrize(
    "change",
    [
        {"method": "magic"},
        {"direction": "up"},
        {"path": 1},
        {"path": "a\0b"},
        {"size": -1},
        {"size": True},
        {"size": 2**64},
        {"created": 10**400},
        {"created": "1"},
        {"details": []},
        {"details": {"x": []}},
        {"another": 1},
    ],
    ids=str,
)
def test_a_changed_record_is_refused(change: dict[str, object]) -> None:
    changed = json.dumps({**json.loads(RECORD.packed()), **change}).encode()
    with pytest.raises(Conflict, match="damaged"):
        Record.parse(changed)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"state": "RUNNING", "at": 1}', b'{"state": "FAILED", "at": -1}', b"[" * 9999]
)
def test_a_changed_end_is_refused(data: bytes) -> None:
    with pytest.raises(Conflict, match="damaged"):
        End.parse(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"at": 1.5}', b'{"at": 1, "job_id": 3}', *(b'{"at": 1, "done": %d}' % n for n in (-3, 10**400))],
)
def test_changed_progress_is_refused(data: bytes) -> None:
    with pytest.raises(Conflict, match="damaged"):
        Progress.parse(data)


@pytest.mark.parametrize(("size", "part_size"), [(10**12, 1), (10_001, 1), (5, -1)])
def test_edited_record_has_no_more_parts_than_an_upload_can_have(size: int, part_size: int) -> None:
    """A retry signs a URL for each part."""
    record = Record("direct", "upload", "/a", 1, size, details={"part_size": part_size, "file": 0, "mode": 0})
    with pytest.raises(Conflict, match="damaged"):
        plan_of(record)
    assert plan_of(replace(record, size=10_000, details={**record.details, "part_size": 1})).count == 10_000
