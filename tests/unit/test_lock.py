"""The lock files satisfy pyproject.toml and hold no address or path of the machine that made them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LIVE = tuple(f"tests/live/requirements-{name}.lock" for name in ("aiida", "kubernetes", "wormhole"))
LOCKS = ("requirements.lock", *LIVE)
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?==(?P<version>[^ ;\\]+)", re.MULTILINE)


def pins(lock: str) -> dict[str, Version]:
    found = PIN.finditer((ROOT / lock).read_text("utf-8"))
    return {canonicalize_name(pin["name"]): Version(pin["version"]) for pin in found}


def asked_for(*names: str) -> list[str]:
    """The requirements of the project and of its extras: of those named, or of all and of the build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    of_extras = project["project"]["optional-dependencies"]
    extras = [of_extras[name] for name in names or of_extras]
    both = [*project["project"]["dependencies"], *([] if names else project["build-system"]["requires"])]
    return sorted({text for texts in (both, *extras) for text in texts})


@pytest.mark.parametrize("text", asked_for())
def test_all_requirements_are_pinned_to_a_matching_version(text: str) -> None:
    requirement = Requirement(text)
    locked = pins("requirements.lock")
    assert canonicalize_name(requirement.name) in locked, "run scripts/lock"
    assert locked[canonicalize_name(requirement.name)] in requirement.specifier, "run scripts/lock"


def test_extras_of_dependencies_are_pinned() -> None:
    """`asyncssh[bcrypt]` needs bcrypt to read keys with a passphrase."""
    assert "bcrypt" in pins("requirements.lock")


@pytest.mark.parametrize(("lock", "fewer"), [(lock, 5 if "kubernetes" in lock else 20) for lock in LOCKS])
def test_every_pin_has_a_hash(lock: str, fewer: int) -> None:
    blocks = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / lock).read_text("utf-8"))
    pinned = [block for block in blocks if PIN.match(block)]
    assert len(pinned) >= len(pins(lock)) > fewer
    assert [block.splitlines()[0] for block in pinned if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_no_address_and_no_path(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    assert re.findall(r"\S*://\S*|^-.*$|\bfile:\S*|(?<= )/\S+", text, re.MULTILINE) == []
