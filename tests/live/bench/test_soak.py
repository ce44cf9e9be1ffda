"""The benchmark's soak on the real centre, for a second: nothing is wrong, and nothing is left over."""

from __future__ import annotations

import asyncio
import pwd
from pathlib import Path

import pytest
from bench.contenders import sites
from bench.contenders.accounts import PREFIX, may_make
from bench.contenders.openssh import OpenSsh
from bench.contenders.servers import Servers
from bench.results import Results
from bench.targets import TARGETS, judge
from bench.workloads.crowds.soak import WHOLE, Soak
from bench.workloads.workload import Bench

from tests.live.site import Site

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]  # its jobs wait behind those of other tests


def test_soak_for_a_second(tmp_path: Path) -> None:
    site = Site.from_environment()
    if (reason := site.why_not()) or not may_make(site):
        pytest.skip(reason or "only root on the machine of the centre can make users")
    short = Soak(users=2, idle=0.5, pause=(0.01, 0.05), last_poll=0.5)
    said: list[str] = []
    with sites.issuing(site) as issuer:
        found = Results(asyncio.run(short.run(a_bench(site, Servers(site, issuer, tmp_path), said))))
    wrong = {cell.parameter: cell.mean for cell in found.of("soak", "wrong responses")}
    assert set(wrong.values()) == {0.0}, said
    assert {"stat", "ls", "upload", "download", "submit", "poll", "mkdir", "rm"} <= set(wrong)
    whole = {cell.parameter: cell.mean for cell in found.of("soak", WHOLE)}
    assert (whole["users"], whole["jobs"] > 0) == (2, True)
    for name in ("descriptors left", "connections left", "channels left", "processes left"):
        assert whole[name] <= 0, said
    assert list(found.of("soak", "ms p99, over time"))
    verdicts = {target.text: judge(target, found).passed for target in TARGETS if target.of[0] == "soak"}
    assert all(passed is not None for passed in verdicts.values()), "every target finds its cell"
    assert not [entry.pw_name for entry in pwd.getpwall() if entry.pw_name.startswith(PREFIX)]
    assert not [*Path("/home").glob(f"{PREFIX}*")]


def a_bench(site: Site, servers: Servers, said: list[str]) -> Bench:
    """A benchmark with a soak of a second."""

    async def no_shell(line: str) -> str:
        raise AssertionError(line)

    return Bench(
        contenders={},
        servers=servers,
        files=(),
        folder="",
        quick=True,
        shell=no_shell,
        ssh=OpenSsh(site, servers.folder),
        scheduler=True,
        sshd=None,
        say=said.append,
        clients=4,
        soak_minutes=1 / 60,
    )
