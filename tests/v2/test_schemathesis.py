"""Schemathesis sends what the OpenAPI document allows and what it does not: no 5xx, nothing that is not documented."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import jwt
import pytest

from .conftest import Api

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(400)]

PROGRAM = Path(__file__).parents[2] / ".venv-schemathesis/bin/schemathesis"
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "allow_header_conformance", "ignored_auth",
)  # fmt: skip
# It cannot make bodies of these media types; events have no end.
EXCLUDED = r"/uploads|/bulk/upload$|/jobs/events$"
SECONDS = 120  # a run, without the beginning of its last requests


@pytest.mark.parametrize("token", ["valid", "forged"])
def test_the_whole_document(api: Api, token: str, tmp_path: Path) -> None:
    if api.live:
        pytest.skip("its requests would change what other users of the site have")
    if not os.access(PROGRAM, os.X_OK):
        pytest.skip("to be run after `scripts/setup .venv-schemathesis tests/live/requirements-schemathesis.lock`")
    claims = jwt.decode(api.token, options={"verify_signature": False})
    sent = api.token if token == "valid" else jwt.encode(claims, "k" * 32, "HS256")
    argv = [
        str(PROGRAM), "run", f"{api.url}/openapi.json", "-H", f"Authorization: Bearer {sent}",
        "--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing", "--max-examples", "10", "--seed", "1",
        "--max-time", str(SECONDS), "--request-timeout", "120", "--no-shrink", "--continue-on-failure",
        "--warnings", "off", "--exclude-path-regex", EXCLUDED,
    ]  # fmt: skip
    done = subprocess.run(argv, cwd=tmp_path, check=False, capture_output=True, encoding="utf-8", errors="replace")
    lines = [line[:500] for line in f"{done.stdout}\n{done.stderr}".splitlines()]
    assert done.returncode == 0, "\n".join(lines[-200:])
