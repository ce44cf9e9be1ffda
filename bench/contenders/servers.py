"""Who is measured: the gateway and the baselines, each in a process of its own, all on one site with one issuer.

It starts and ends them; it measures nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tests.live.process import Server, free_port, gateway, serving
from tests.live.site import Site, write_settings

from bench.columns import GATEWAY, TITLES
from bench.measure.load import Caller

from . import sites
from .baselines import Baseline, Kind

if TYPE_CHECKING:
    from flamecrest.sandbox.issuer import Issuer


@dataclass(frozen=True, slots=True)
class Contender:
    """One of them: its column, how to reach it, and its process and log where we know them."""

    key: str
    caller: Caller
    pid: int | None = None
    log: Path | None = None

    @property
    def title(self) -> str:
        return TITLES[self.key]


@dataclass(frozen=True, slots=True)
class Foreign:
    """A gateway that somebody else started."""

    url: str
    token: str
    system: str


@dataclass(frozen=True, slots=True)
class Crowd:
    """A gateway that nobody has used yet, and its users: how each reaches it, and where each is at home."""

    pid: int
    port: int  # of its site's SSH server
    callers: Sequence[Caller]
    homes: Sequence[str]


@contextmanager
def baseline(kind: Kind, site: Site, issuer: Issuer, folder: Path) -> Iterator[Contender]:
    """Run one baseline."""
    known = Baseline(kind, issuer.url, issuer.audience, site.host, site.port, str(site.keys), str(site.known_hosts))
    file = folder / f"baseline-{kind}.json"
    file.write_text(json.dumps(asdict(known)), "utf-8")
    port = free_port()
    argv = [sys.executable, "-m", "bench.contenders.baselines", str(file), str(port)]
    with serving(argv, port, folder / f"baseline-{kind}.log") as server:
        yield Contender(kind, _caller(server, site, issuer.mint(site.user)), server.pid, server.log)


@contextmanager
def flamecrest(site: Site, issuer: Issuer, folder: Path) -> Iterator[Contender]:
    """Run the gateway, without probes."""
    folder.mkdir(exist_ok=True)
    settings = site.settings(issuer, folder / "service_secret", probing=False)
    with gateway(write_settings(settings, folder / "flamecrest.yaml"), folder / "gateway.log") as server:
        yield Contender(GATEWAY, _caller(server, site, issuer.mint(site.user)), server.pid, server.log)


@contextmanager
def crowd(folder: Path, users: int) -> Iterator[Crowd]:
    """Run another gateway, on a sandbox with many users: no real site needs to have as many accounts."""
    folder.mkdir()
    with (
        sites.sandbox(folder, users=users) as site,
        sites.issuing(site) as issuer,
        flamecrest(site, issuer, folder) as gateway,
    ):
        assert gateway.pid is not None
        callers = [Caller(gateway.caller.url, issuer.mint(user)) for user in site.users]
        yield Crowd(gateway.pid, site.port, callers, [site.home(user) for user in site.users])


def start(key: str, site: Site, issuer: Issuer, folder: Path) -> AbstractContextManager[Contender]:
    """Run the contender of that column."""
    return flamecrest(site, issuer, folder) if key == GATEWAY else baseline(cast("Kind", key), site, issuer, folder)


def foreign(gateway: Foreign) -> Contender:
    """A gateway that runs already."""
    return Contender(GATEWAY, Caller(f"{gateway.url.rstrip('/')}/filesystem/{gateway.system}", gateway.token))


def _caller(server: Server, site: Site, token: str) -> Caller:
    return Caller(f"{server.url}/filesystem/{site.system}", token)
