"""A transfer job removes logs that are older than a month, and no other files."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import uuid4

import pytest

from .test_jobs import site_at

pytestmark = pytest.mark.anyio

DAY = 24 * 60 * 60


def log(folder: Path, *, days: int, error: bool = False, name: str = "") -> Path:
    path = folder / (name or f".f7t_file_handling_job_{'error_' * error}{uuid4()}.log")
    path.write_text("what happened")
    os.utime(path, times=(time.time() - days * DAY,) * 2)
    return path


def alike(folder: Path) -> list[Path]:
    """Files as old that are not logs of this user."""
    names = (
        "{}.log",
        "x.f7t_file_handling_job_{}.log",
        ".f7t_file_handling_job_{}.log.kept",
        ".f7t_file_handling_job_{}.txt",
        ".f7t_file_handling_job_x{}.log",
        ".f7t_file_handling_job_{}\n.log",
        ".f7t_file_handling_job_.log",
        ".f7t_file_handling_job_*.log",
        "\n.f7t_file_handling_job_error_{}.log ",
    )
    (folder / "deeper").mkdir()
    made = [log(folder, days=90, name=name.format(uuid4())) for name in names] + [log(folder / "deeper", days=90)]
    link, named = (folder / f".f7t_file_handling_job_{uuid4()}.log" for _ in range(2))
    link.symlink_to(made[-1])
    named.mkdir()
    for path in (link, named):
        os.utime(path, times=(0, 0), follow_symlinks=False)
    if os.geteuid() == 0:
        made.append(log(folder, days=90))
        os.chown(made[-1], 65534, 65534)
    return [*made, link, named]


@pytest.mark.parametrize("home", ["folder", "link"])
async def test_only_old_logs_are_removed(tmp_path: Path, home: str) -> None:
    site = site_at(tmp_path)
    folder = tmp_path / "fireuser"
    if home == "link":
        folder = folder.rename(tmp_path / "elsewhere")
        (tmp_path / "fireuser").symlink_to(folder)
    old = [log(folder, days=32), log(folder, days=400, error=True)]
    kept = [log(folder, days=0), log(folder, days=29, error=True), log(tmp_path / "data", days=90), *alike(folder)]

    (tmp_path / "data" / "a").write_text("a")
    site.worked(await site.transfers.rm(str(tmp_path / "data" / "a"), site.deadline, account=None), "deleted")

    assert not [path for path in old if path.exists()]
    assert [path for path in kept if not os.path.lexists(path)] == []


async def test_failed_job_keeps_its_exit_status(tmp_path: Path) -> None:
    site = site_at(tmp_path)
    old = log(tmp_path / "fireuser", days=90)
    site.failed(await site.transfers.rm(str(tmp_path / "none"), site.deadline, account=None), "No such file")
    assert not old.exists()
