"""Fixtures: a token issuer per module, on the event loop of the module's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from flamecrest.sandbox.issuer import SigningKey
from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.oidc import OidcAuthenticator
from tests.faulty_issuer import FaultyIssuer
from tests.unit.auth.world import AUDIENCE, Clock, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def rsa_key() -> SigningKey:
    return SigningKey.generate("RS256", kid="rsa-1")


@pytest.fixture(scope="module")
async def http(anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        yield client


@pytest.fixture(scope="module")
async def issuer(anyio_backend: str, rsa_key: SigningKey) -> AsyncIterator[FaultyIssuer]:
    """A shared issuer. Tests that change their issuer start their own."""
    async with FaultyIssuer({"robot": ("robot-secret", "ann")}, keys=[rsa_key], audience=AUDIENCE) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def gate(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock) -> AsyncIterator[OidcAuthenticator]:
    """An authenticator that checks everything, with the issuer's keys already fetched."""
    async with OidcAuthenticator(
        ClaimRules(issuer=issuer.url, audience=frozenset({AUDIENCE})), http=http, clock=clock, monotonic=clock
    ) as authenticator:
        await ask(authenticator, issuer.mint("ann"))
        yield authenticator
