"""Slurm's daemons are stopped: files go on, no job is lost or doubled. The centre of another suite than others use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flamecrest.sandbox.issuer import Issuer
from tests.live import faults
from tests.live.fault_world import World
from tests.live.site import Site

from .conftest import Scene
from .writes import Submissions

pytestmark = pytest.mark.timeout(300)
SUITE = "trixie"


@pytest.fixture
def there(live_issuer: Issuer, tmp_path: Path) -> Iterator[Scene]:
    site = Site.of_suite(SUITE)
    if SUITE not in os.environ.get("SUITES", "").split() and (reason := site.why_not()):
        pytest.skip(reason)
    with ExitStack() as stack:
        yield Scene(World(site, live_issuer, tmp_path, stack))


@pytest.mark.parametrize("daemon", ["slurmctld", "slurmdbd", "munged"])
def test_a_daemon_is_stopped(there: Scene, daemon: str) -> None:
    scene, site = there, there.world.site
    node = scene.world.sshd(site.keys.parents[1])
    server = scene.serve(scene.settings(node))
    user = scene.users[0]
    scene.traffic.add("stat", scene.asks(user, "GET", scene.operation("stat"), params=scene.home(user)), 0.2)
    scene.traffic.add("jobs", scene.asks(user, "GET", scene.world.jobs), 0.3)
    submissions = Submissions(scene.world, scene.world.client(server, user))
    scene.traffic.add("submit", submissions, 0.5)
    with scene.fault(daemon, node) as fault:
        fault.checks.append(submissions.check)
        with fault.lasts(), faults.ended(daemon, SUITE):
            if daemon == "slurmdbd":
                fault.until_served()
            else:
                fault.until_noticed("submit")
    assert all(one.served for one in scene.traffic.samples if one.what == "stat")
