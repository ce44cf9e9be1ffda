"""AiiDA's FirecREST plugin, unchanged: a calculation by its engine on each kind of scheduler."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from flamecrest.sandbox.centre import Centre
from flamecrest.sandbox.issuer import Issuer
from tests.contract.gateways import live_site

from .process import ROOT, gateway
from .site import write_settings


@dataclass(frozen=True)
class Place:
    """A gateway to one system, a client of its issuer, and a folder of the client's user."""

    url: str
    token_url: str
    client: str
    secret: str
    system: str
    folder: str
    account: str


@pytest.fixture(params=["live-hybrid", "live-rest", "live-local", "pbs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        if request.param == "pbs":
            yield _over_pbs(portal, stack, tmp_path)
            return
        site = live_site(request.param)
        issuer = stack.enter_context(portal.wrap_async_context_manager(Issuer(site.clients(), ttl=3600)))
        settings = site.settings(issuer, tmp_path / "service_secret", probing=False)
        account = "" if site.local is not None else site.account  # the local scheduler has no accounts
        yield _served(stack, tmp_path, settings, issuer, (site.system, site.user, site.home(site.user), account))


def _over_pbs(portal: BlockingPortal, stack: ExitStack, folder: Path) -> Place:
    """The toy of OpenPBS: no package registry has OpenPBS itself."""
    centre = stack.enter_context(portal.wrap_async_context_manager(Centre(folder / "centre", scheduler="pbs")))
    user = "fireuser"
    return _served(stack, folder, centre.config(), centre.issuer, (centre.system, user, str(centre.home(user)), ""))


def _served(
    stack: ExitStack, folder: Path, settings: dict[str, Any], issuer: Issuer, where: tuple[str, str, str, str]
) -> Place:
    """A gateway with the settings; `where` is system, user, home directory, and account."""
    system, user, home, account = where
    server = stack.enter_context(gateway(write_settings(settings, folder / "flamecrest.yaml"), folder / "gateway.log"))
    client = next(name for name, (_, owner) in issuer.clients.items() if owner == user)
    return Place(server.url, issuer.token_url, client, issuer.clients[client][0], system, home, account)


def test_a_calculation(place: Place, aiida_python: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.touch(mode=0o600)
    kept.write_text(place.secret, encoding="utf-8")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AIIDA_PATH": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "NO_PROXY": "*",
        "FIRECREST_URL": place.url,
        "FIRECREST_TOKEN_URL": place.token_url,
        "FIRECREST_CLIENT_ID": place.client,
        "FIRECREST_SECRET_FILE": str(kept),
        "FIRECREST_SYSTEM": place.system,
        "FIRECREST_WORK": f"{place.folder}/aiida-{tmp_path.name}",
        "FIRECREST_ACCOUNT": place.account,
        "FIRECREST_STEPS": "calculation by the engine",
    }
    argv = [str(aiida_python), "-m", "tests.live.aiida.drive"]
    done = subprocess.run(argv, cwd=ROOT, env=environ, check=False, capture_output=True, text=True, timeout=150)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.search(r"^ok calculation by the engine: 17 \+ 25 = 42, job ", done.stdout, re.MULTILINE), said
