"""The wheel and the source archive hold the package and nothing else; of the sandbox, only what the demo needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import grimp
import pytest

from flamecrest import __version__
from flamecrest.sandbox.slurm.toy import PROGRAMS
from tests import distribution

pytestmark = pytest.mark.timeout(60)


def build(folder: Path, *options: str) -> None:
    argv = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), *options]
    done = subprocess.run(argv, check=False, cwd=distribution.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]


def test_contents(tmp_path: Path) -> None:
    build(tmp_path)
    assert distribution.faults(tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} == {
        f"flamecrest-{__version__}-py3-none-any.whl",
        f"flamecrest-{__version__}.tar.gz",
    }


def test_check_detects_wrong_contents(tmp_path: Path) -> None:
    build(tmp_path / "dist", "-t", "wheel")
    (wheel,) = (tmp_path / "dist").iterdir()
    other = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(other, "w") as changed:
        for name in archive.namelist():
            if name != "flamecrest/py.typed":
                changed.writestr(name, archive.read(name))
        changed.writestr("tests/conftest.py", "")
    assert distribution.wheel_faults(other) == [
        f"{wheel.name} lacks flamecrest/py.typed",
        f"{wheel.name} holds tests/conftest.py",
    ]


def test_distribution_excludes_test_only_sandbox_modules() -> None:
    graph = grimp.build_graph("flamecrest", cache_dir=None)
    # the toy's executables import their module by name
    roots = {"flamecrest.cli.demo", *(f"flamecrest.sandbox.slurm.commands.{name}" for name in PROGRAMS)}
    reached, open_ends = set(roots), list(roots)
    while open_ends:
        new = graph.find_modules_directly_imported_by(open_ends.pop()) - reached
        reached |= new
        open_ends += new
    packages = {module.rpartition(".")[0] for module in graph.modules}
    modules = {module for module in graph.modules if module.startswith("flamecrest.sandbox.")}
    assert modules - reached - packages == set()
