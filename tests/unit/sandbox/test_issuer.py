"""The sandbox's issuer, used by a client according to the standards."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest

from flamecrest.sandbox.issuer import SigningKey
from tests.faulty_issuer import Fault, FaultyIssuer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

CLIENTS = {"robot": ("robot-secret", "ann"), "odd:&id": ("s /+%\N{EURO SIGN}", "bob")}
FORM = {"grant_type": "client_credentials", "client_id": "robot", "client_secret": "robot-secret"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def http(anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        yield client


@pytest.fixture
async def issuer(anyio_backend: str) -> AsyncIterator[FaultyIssuer]:
    async with FaultyIssuer(CLIENTS, algorithm="ES256", ttl=120, audience="hpc") as running:
        yield running


async def published(http: httpx.AsyncClient, issuer: FaultyIssuer) -> jwt.PyJWKSet:
    """The discovery document."""
    document = (await http.get(f"{issuer.url}/.well-known/openid-configuration")).json()
    assert document["issuer"] == issuer.url
    return jwt.PyJWKSet.from_dict((await http.get(document["jwks_uri"])).json())


async def read(http: httpx.AsyncClient, issuer: FaultyIssuer, token: str) -> dict[str, Any]:
    key = (await published(http, issuer))[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, audience="hpc", issuer=issuer.url, options={"require": ["exp"]})
    return claims


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"])
async def test_token_of_each_algorithm_verifies(http: httpx.AsyncClient, algorithm: str):
    async with FaultyIssuer(CLIENTS, algorithm=algorithm, audience="hpc") as issuer:
        granted = (await http.post(issuer.token_url, data=FORM)).json()
        assert jwt.get_unverified_header(granted["access_token"])["alg"] == algorithm
        assert (await read(http, issuer, granted["access_token"]))["preferred_username"] == "ann"


async def test_response_of_the_token_endpoint(http: httpx.AsyncClient, issuer: FaultyIssuer):
    answer = await http.post(issuer.token_url, data={**FORM, "scope": "a b"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    granted = answer.json()
    claims = await read(http, issuer, granted.pop("access_token"))
    assert granted == {"token_type": "Bearer", "expires_in": 120, "scope": "a b"}
    assert claims["exp"] - claims["iat"] == 120
    assert abs(claims["iat"] - time.time()) < 60
    assert {name: claims[name] for name in ("client_id", "azp", "sub", "scope", "preferred_username")} == {
        "client_id": "robot",
        "azp": "robot",
        "sub": "sandbox:ann",
        "scope": "a b",
        "preferred_username": "ann",
    }


async def test_client_secret_in_a_basic_header(http: httpx.AsyncClient, issuer: FaultyIssuer):
    from urllib.parse import quote_plus

    pair = ":".join(quote_plus(text) for text in ("odd:&id", CLIENTS["odd:&id"][0]))
    headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    answer = await http.post(issuer.token_url, data={"grant_type": "client_credentials"}, headers=headers)
    assert (await read(http, issuer, answer.json()["access_token"]))["preferred_username"] == "bob"


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({**FORM, "client_secret": "wrong"}, 401, "invalid_client"),
        ({**FORM, "client_secret": ""}, 401, "invalid_client"),
        ({**FORM, "client_secret": "\N{SNOWMAN}"}, 401, "invalid_client"),
        ({**FORM, "client_id": "nobody", "client_secret": ""}, 401, "invalid_client"),
        ({"grant_type": "client_credentials"}, 401, "invalid_client"),
        ({**FORM, "grant_type": "password"}, 400, "unsupported_grant_type"),
        ({**FORM, "grant_type": ["client_credentials", "client_credentials"]}, 400, "invalid_request"),
        ({key: FORM[key] for key in ("client_id", "client_secret")}, 400, "invalid_request"),
        ({**FORM, "padding": "x" * 70_000}, 413, "invalid_request"),
        ({f"n{n}": "x" for n in range(100)}, 400, "invalid_request"),
    ],
)
async def test_invalid_form_is_refused(
    http: httpx.AsyncClient, issuer: FaultyIssuer, form: Any, status: int, error: str
):
    answer = await http.post(issuer.token_url, data=form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert "robot-secret" not in answer.text


async def test_invalid_request_is_refused(http: httpx.AsyncClient, issuer: FaultyIssuer):
    assert (await http.get(issuer.token_url)).status_code == 405
    assert (await http.get(f"{issuer.url}/nope")).status_code == 404
    assert (await http.post(issuer.token_url, json=FORM)).json()["error"] == "invalid_request"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for content in (b"\xff\xfe", b"&&&", b"a=1&b", b""):
        answer = await http.post(issuer.token_url, content=content, headers=headers)
        assert answer.status_code in {400, 401}
    for value in ("Basic", "Basic !!!", "Basic /w==", "Bearer x", "Basic cm9ib3Q="):
        headers = {"Authorization": value}
        answer = await http.post(issuer.token_url, data={"grant_type": "client_credentials"}, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
        assert answer.headers["www-authenticate"].startswith("Basic")
    both = await http.post(issuer.token_url, data=FORM, auth=("robot", "robot-secret"))
    assert both.json()["error"] == "invalid_request"


async def test_claims_and_headers_can_be_replaced(http: httpx.AsyncClient, issuer: FaultyIssuer):
    token = issuer.mint("cat", expires=7, nbf=5, groups=["g"], omit=["jti"], headers={"typ": None, "x": 1})
    header, claims = jwt.get_unverified_header(token), await read(http, issuer, token)
    assert header == {"alg": "ES256", "kid": issuer.keys[-1].kid, "x": 1}
    assert claims["preferred_username"] == "cat"
    assert (claims["nbf"], claims["groups"]) == (5, ["g"])
    assert "jti" not in claims
    stranger = SigningKey.generate("ES256", issuer.keys[-1].kid)
    with pytest.raises(jwt.InvalidSignatureError):
        await read(http, issuer, issuer.mint("cat", key=stranger))


async def test_rotation_keeps_old_keys_or_withdraws_them(http: httpx.AsyncClient, issuer: FaultyIssuer):
    old = issuer.mint("ann")
    new = issuer.rotate("EdDSA")
    assert [key.key_id for key in (await published(http, issuer)).keys][-1] == new.kid
    assert await read(http, issuer, old)
    assert jwt.get_unverified_header(issuer.mint("ann"))["alg"] == "EdDSA"
    issuer.rotate(keep=False, kid="third")
    assert [key.key_id for key in (await published(http, issuer)).keys] == ["third"]
    with pytest.raises(KeyError):
        await read(http, issuer, old)


async def test_only_public_keys_are_published(http: httpx.AsyncClient):
    keys = [SigningKey.generate(name) for name in ("RS256", "ES256", "EdDSA")]
    async with FaultyIssuer(keys=keys) as issuer:
        for key in (await http.get(issuer.jwks_url)).json()["keys"]:
            assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & key.keys()


async def test_faults(http: httpx.AsyncClient, issuer: FaultyIssuer):
    issuer.fault = Fault.ERROR
    assert (await http.get(issuer.jwks_url)).status_code == 500
    issuer.fault = Fault.GARBAGE
    answer = await http.get(issuer.jwks_url)
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json()
    issuer.fault = Fault.HANG
    hanging = asyncio.create_task(http.get(issuer.jwks_url))
    await issuer.wait_fetched("jwks", 3)
    done, _ = await asyncio.wait({hanging}, timeout=0.02)
    assert not done
    issuer.fault = Fault.SLOW
    assert (await hanging).status_code == 500
    assert (await http.get(issuer.jwks_url)).status_code == 200
    issuer.fault = Fault.NONE
    await published(http, issuer)
    assert issuer.fetched == {"jwks": 5, "discovery": 1}


async def test_restart_uses_the_same_port(http: httpx.AsyncClient, issuer: FaultyIssuer):
    url, keys = issuer.url, issuer.keys
    await published(http, issuer)
    await issuer.stop()
    await issuer.stop()
    with pytest.raises(httpx.ConnectError):
        await published(http, issuer)
    await issuer.start()
    await issuer.start()
    assert (issuer.url, issuer.keys) == (url, keys)
    await published(http, issuer)


async def test_stop_releases_hanging_requests(http: httpx.AsyncClient, issuer: FaultyIssuer):
    issuer.fault = Fault.HANG
    hanging = asyncio.create_task(http.get(issuer.jwks_url))
    await issuer.wait_fetched("jwks", 1)
    await issuer.stop()
    assert (await hanging).status_code == 500


async def test_issuers_are_independent(http: httpx.AsyncClient, issuer: FaultyIssuer):
    async with FaultyIssuer({"robot": ("other", "eve")}, algorithm="ES256") as other:
        assert other.url != issuer.url
        assert (await http.post(other.token_url, data=FORM)).status_code == 401
        assert (await http.post(issuer.token_url, data=FORM)).status_code == 200
        assert "private" not in repr(issuer) + repr(issuer.keys)
