"""Fixtures of the live tests: a running site, a token issuer, a gateway in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.issuer import Issuer

from .fault_world import World
from .process import Server, gateway
from .site import Site, write_settings

SECONDS = 180  # a live test without a timeout mark of its own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests in this directory as live, with a longer timeout."""
    here = str(Path(__file__).parent) + os.sep
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.live)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture(scope="session")
def site() -> Site:
    """The site. If it is down, tests are skipped, or fail if FLAMECREST_LIVE is set."""
    found = Site.from_environment()
    reason = found.why_not()
    if reason is not None:
        if os.environ.get("FLAMECREST_LIVE"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session", autouse=True)
def _live(site: Site) -> None:
    """No test of this directory runs without the site."""


@pytest.fixture(scope="session")
def live_issuer(site: Site) -> Iterator[Issuer]:
    """The token issuer, in a thread of its own, with a client USER-client (secret USER-secret) for every user."""
    with start_blocking_portal("asyncio") as portal:
        issuer = Issuer(site.clients(), ttl=3600)
        portal.call(issuer.start)
        try:
            yield issuer
        finally:
            portal.call(issuer.stop)


@pytest.fixture
def world(site: Site, live_issuer: Issuer, tmp_path: Path) -> Iterator[World]:
    """The tools to inject faults; the site is restored afterwards."""
    with ExitStack() as stack:
        yield World(site, live_issuer, tmp_path, stack)


@pytest.fixture
def live_config(site: Site, live_issuer: Issuer, tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration file for the site; keywords replace whole sections of it."""

    def write(**sections: Any) -> Path:
        settings = site.settings(live_issuer, tmp_path / "service_secret")
        return write_settings(settings | sections, tmp_path / "flamecrest.yaml")

    return write


@pytest.fixture(scope="session")
def live_gateway(site: Site, live_issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway on the site, one for all tests."""
    folder = tmp_path_factory.mktemp("gateway")
    config = write_settings(site.settings(live_issuer, folder / "service_secret"), folder / "flamecrest.yaml")
    with gateway(config, folder / "gateway.log") as server:
        yield server


@pytest.fixture(scope="session")
def live_token(live_issuer: Issuer) -> Callable[..., str]:
    """Makes an access token for a user."""
    return live_issuer.mint


@pytest.fixture(scope="session")
def aiida_python() -> Path:
    """The interpreter that has aiida-firecrest (scripts/test-live makes it)."""
    python = Path(__file__).parents[2] / ".venv-aiida/bin/python"
    if not python.exists():
        if os.environ.get("FLAMECREST_LIVE"):
            pytest.fail("there is no .venv-aiida", pytrace=False)
        pytest.skip("there is no .venv-aiida: see scripts/test-live")
    return python
