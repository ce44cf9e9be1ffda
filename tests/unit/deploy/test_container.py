"""The container file: what it installs is locked, and how it runs."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flamecrest.server.http.health import routes
from tests.live.process import ROOT
from tests.unit.test_lock import asked_for, pins

FOLDER = ROOT / "deploy" / "container"
CONTAINERFILE = FOLDER / "Containerfile"
LOCKS = ("deploy/container/requirements.lock", "deploy/container/build.lock")


@pytest.mark.parametrize("lock", LOCKS)
def test_same_versions_as_the_tests_have(lock: str) -> None:
    tested, shipped = pins("requirements.lock"), pins(lock)
    assert len(shipped) > 3
    assert {name: version for name, version in shipped.items() if tested.get(name) != version} == {}, "run scripts/lock"


def test_everything_that_the_server_needs_is_there() -> None:
    shipped = pins(LOCKS[0])
    needed = {canonicalize_name(Requirement(text).name) for text in asked_for("server", "otel", "cel")}
    assert needed - set(shipped) == set()
    assert not {"pytest", "mypy", "matplotlib", "hatchling"} & set(shipped)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    blocks = [block for block in re.split(r"\n(?=[A-Za-z0-9])", text) if "==" in block.splitlines()[0]]
    assert len(blocks) >= len(pins(lock))
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.findall(r"\S*://\S*|^-.*$|\bfile:\S*", text, re.MULTILINE) == []


def test_image_has_no_root_no_index_and_a_health_check() -> None:
    text = CONTAINERFILE.read_text("utf-8")
    last = text.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.*)$", last, re.MULTILINE) == ["65532:65532"]
    assert "--require-hashes" in text
    assert not re.search(r"index-url|pypi|PIP_", text)
    (path,) = re.findall(r"http://127\.0\.0\.1:8000(/\S+?)'", last)
    assert path in {route.path for route in routes}


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is missing")
def test_hadolint_has_no_objection() -> None:
    done = subprocess.run(["hadolint", str(CONTAINERFILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
