"""The accounts of the tests of logins, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.issuer import Issuer
from tests.live.site import Site

from .accounts import Logins, accounts


@pytest.fixture(scope="package")
def logins(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logins]:
    with start_blocking_portal("asyncio") as portal:
        issuer = Issuer({}, ttl=3600)
        portal.call(issuer.start)
        try:
            with accounts(site, issuer, tmp_path_factory.mktemp("logins")) as made:
                yield made
        finally:
            portal.call(issuer.stop)
