"""Which patterns of an archive search folders that may be links."""

from __future__ import annotations

import pytest

from flamecrest.server.http.files.archive import searches_folders


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/a/b", False),
        ("/a/*", False),
        ("/a/*/", False),
        ("/a/**", False),
        ("/a/**/*.out", False),
        ("/a/./**//*.out", False),
        ("/", False),
        ("", False),
        ("/a/*/b", True),
        ("/a/?/b", True),
        ("/[a]/b", True),
        ("/a/**/b/c", True),
        ("/a/x**/c", True),
        ("/a/\n*\n/c", True),
    ],
)
def test_patterns(path: str, found: bool) -> None:
    assert searches_folders([path]) is found
    assert searches_folders(["/plain", path]) is found
