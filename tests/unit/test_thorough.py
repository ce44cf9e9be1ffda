"""The list of thorough tests names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import thorough

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", thorough.THOROUGH)
def test_names_are_those_of_tests_in_the_file(file: str) -> None:
    names = re.findall(r"^(?:async )?def (test_\w+)", (ROOT / file).read_text(), re.MULTILINE)
    assert names
    for pattern in thorough.THOROUGH[file]:
        begin = re.match(r"test_[a-z0-9_]+", pattern)
        assert begin is None or any(name.startswith(begin[0].rstrip("_")) for name in names), pattern
