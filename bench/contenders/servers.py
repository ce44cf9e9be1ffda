"""Start and stop the servers that are measured, each in a process of its own.

All of them work on one site and accept the tokens of one issuer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tests.live.process import PROGRAMS, Server, free_port, gateway, serving
from tests.live.site import Site, write_settings

from bench.columns import GATEWAY, OTHER, TITLES
from bench.measure.load import Endpoint
from flamecrest.sandbox.issuer import Issuer

from . import sites
from .baselines import BaselineConfig, BaselineKind


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that is measured. `pid` and `log` are None for a server that the benchmark did not start."""

    key: str
    endpoint: Endpoint
    pid: int | None = None
    log: Path | None = None

    @property
    def title(self) -> str:
        return TITLES[self.key]


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """The address of a gateway that is running already."""

    url: str
    token: str
    system: str

    def contender(self) -> Contender:
        return Contender(GATEWAY, Endpoint(f"{self.url.rstrip('/')}/filesystem/{self.system}", self.token))


@dataclass(frozen=True, slots=True)
class MultiUserGateway:
    """A gateway on a site with many users, with the endpoint and the home directory of each user."""

    pid: int
    ssh_port: int
    endpoints: Sequence[Endpoint]
    homes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Servers:
    """Starts contenders on a site. Their configurations and logs are written into `folder`."""

    site: Site
    issuer: Issuer
    folder: Path
    other_checkout: Path | None = None  # with an environment of its own in .venv

    def start(self, key: str) -> AbstractContextManager[Contender]:
        """Start the contender of a column."""
        return self.gateway(key) if key in {GATEWAY, OTHER} else self._baseline(cast("BaselineKind", key))

    @contextmanager
    def gateway(self, key: str, folder: str = "", more: Mapping[str, Any] | None = None) -> Iterator[Contender]:
        """Start a gateway without probes: of this checkout, or of the other one for the key OTHER.

        `more` are further settings. It is started by its command line only, because the other checkout may have other
        modules.
        """
        here = self.folder / folder / key
        here.mkdir(parents=True, exist_ok=True)
        programs = PROGRAMS
        if key == OTHER:
            assert self.other_checkout is not None
            programs = self.other_checkout / ".venv/bin"
        settings = self.site.settings(self.issuer, here / "service_secret", probing=False) | dict(more or {})
        with gateway(write_settings(settings, here / "flamecrest.yaml"), here / "gateway.log", programs) as server:
            yield Contender(key, self._endpoint(server), server.pid, server.log)

    @contextmanager
    def multi_user_gateway(
        self, key: str, users: int, more: Mapping[str, Any] | None = None
    ) -> Iterator[MultiUserGateway]:
        """Start a gateway on a sandbox with that many users; a real site need not have as many accounts.

        `more` are further settings.
        """
        folder = self.folder / f"multi-user-{key}"
        folder.mkdir()
        with sites.sandbox(folder, users) as site, sites.issuing(site) as issuer:
            servers = Servers(site, issuer, folder, self.other_checkout)
            with servers.gateway(key, more=more) as contender:
                assert contender.pid is not None
                endpoints = [Endpoint(contender.endpoint.url, issuer.mint(user)) for user in site.users]
                yield MultiUserGateway(contender.pid, site.port, endpoints, [site.home(user) for user in site.users])

    @contextmanager
    def _baseline(self, kind: BaselineKind) -> Iterator[Contender]:
        site, issuer = self.site, self.issuer
        known_hosts = str(site.known_hosts)
        config = BaselineConfig(kind, issuer.url, issuer.audience, site.host, site.port, str(site.keys), known_hosts)
        file = self.folder / f"baseline-{kind}.json"
        file.write_text(json.dumps(asdict(config)), "utf-8")
        port = free_port()
        argv = [sys.executable, "-m", "bench.contenders.baselines", str(file), str(port)]
        with serving(argv, port, self.folder / f"baseline-{kind}.log") as server:
            yield Contender(kind, self._endpoint(server), server.pid, server.log)

    def _endpoint(self, server: Server) -> Endpoint:
        return Endpoint(f"{server.url}/filesystem/{self.site.system}", self.issuer.mint(self.site.user))
