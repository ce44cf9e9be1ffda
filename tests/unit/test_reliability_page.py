"""docs/reliability.md has a row for every fault that tests make, and is made from what they write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.reliability.catalog import FAULTS
from tests.live.reliability.observed import without_addresses
from tests.live.reliability.page import BEGIN, PAGE, tables, with_tables

TESTS = Path(__file__).parents[1] / "live/reliability"
COUNTS = {"connections": 0, "programs": 0, "descriptors": 28, "sockets": 12, "children": 0, "memory": 118_784}
SERVED = {
    "key": "max-sessions", "requests": 90, "failed": 0, "noticed": None, "over": None, "longest": 1.25, "seen": [],
    "kept": [], "before": COUNTS, "after": COUNTS,
}  # fmt: skip
FAILED = SERVED | {
    "key": "sshd-killed",
    "failed": 3,
    "noticed": 0.021,
    "over": 0.3,
    "kept": ["12 uploads acknowledged"],
    "seen": [
        {"status": 424, "message": "failed: a | b", "requests": {"ls": 1, "stat": 1}},
        {"status": 0, "message": "closed", "requests": {"download": 1}},
    ],
    "after": COUNTS | {"sockets": 13},
}


def test_the_page_has_a_row_for_every_fault() -> None:
    observed = PAGE.read_text().partition(BEGIN)[2]
    assert [kind.key for kind in FAULTS if f"| **{kind.title}**: {kind.means} |" not in observed] == []
    assert "not observed" not in observed


def test_every_fault_is_made_by_a_test() -> None:
    tests = "".join(path.read_text() for path in TESTS.glob("test_*.py"))
    assert [kind.key for kind in FAULTS if f'"{kind.key}"' not in tests] == []


def test_the_tables_are_made_of_observations() -> None:
    text = tables({"sshd-killed": FAILED, "max-sessions": SERVED}, "a machine")
    rows = {line.split(":")[0]: line for line in text.splitlines() if line.startswith("| **")}
    assert rows["| **The login node crashes**"].endswith(
        "| ls, stat: **424** failed: a \\| b<br>download: *closed* | 0.02 s | 0.30 s |"
    )
    assert "nothing: 90 requests were served, the longest took 1.2 s | - | - |" in text
    assert "| The login node crashes | nothing: 12 uploads acknowledged | 0 → 0 | 0 → 0 | 28 → 28 | 12 → 13 |" in text
    assert text.count("not observed in this run") == len(FAULTS) - 2
    assert with_tables(with_tables(PAGE.read_text(), "x\n"), text) == with_tables(PAGE.read_text(), text)


def test_what_is_not_observed_keeps_its_rows() -> None:
    page = with_tables(PAGE.read_text(), tables({"sshd-killed": FAILED}, "a machine"))
    other = tables({"max-sessions": SERVED}, "another", page)
    assert "Observed on another; some rows are of an earlier run." in other
    assert "| ls, stat: **424** failed: a \\| b<br>download: *closed* | 0.02 s | 0.30 s |" in other
    assert other.count("| The login node crashes |") == 1
    assert "nothing: 90 requests were served" in other
    assert other.count("not observed in this run") == len(FAULTS) - 2
    assert tables({}, "a third", with_tables(page, other)).count("\n| ") == other.count("\n| ")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("SSH to 127.0.0.1:40321 failed", "SSH to login.example.org failed"),
        ("SSH to 198.18.4.2:22 failed", "SSH to login.example.org failed"),
        ("down since 2026-03-02T08:00:00Z: x", "down since TIME: x"),
        ("upload: /home/user07/a b: failed", "upload: PATH b: failed"),
        ("The SSH service of cluster-slurm-ssh has", "The SSH service of daint has"),
    ],
)
def test_messages_are_without_addresses(message: str, shown: str) -> None:
    assert without_addresses(message) == shown
