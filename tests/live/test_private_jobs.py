"""Shared reads where Slurm shows users their own jobs only: no user gets the answer of another one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.gateways import over_live_site, soon

from .site import Site
from .test_shared_reads import JOB, LIFE, POLLERS, as_user, ids

pytestmark = pytest.mark.anyio


@pytest.fixture
def private_jobs() -> Iterator[Site]:
    """The centre of trixie, whose Slurm shows jobs and nodes to their owners only."""
    site = Site.of_suite("trixie")
    if "trixie" not in os.environ.get("SUITES", "").split() and (reason := site.why_not()):
        pytest.skip(reason)
    centre = site.keys.parent
    config = centre / "etc/slurm/slurm.conf"
    before = config.read_text()

    def configure(text: str) -> None:
        config.write_text(text)
        argv = ["chroot", str(centre.parent), "scontrol", "reconfigure"]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)

    configure(before + "PrivateData=jobs,usage\n")
    try:
        yield site
    finally:
        configure(before)


@pytest.mark.parametrize("mode", ["ssh", "rest", "hybrid"])
async def test_private_jobs_are_never_given_from_the_answer_of_another(
    private_jobs: Site, tmp_path: Path, mode: str
) -> None:
    site = replace(private_jobs, connection_mode=mode, shared_life=LIFE)
    async with over_live_site(tmp_path, site=site) as reached:
        mine, other = [await as_user(reached, user) for user in POLLERS]
        job_id = await mine.submit(JOB, soon())
        assert job_id in await ids(mine, all_users=True)
        assert job_id not in await ids(other, all_users=True)
        assert job_id not in await ids(other)
        await mine.cancel(job_id, soon())
