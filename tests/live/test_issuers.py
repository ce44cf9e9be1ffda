"""A gateway that trusts a real Keycloak and a real `oidc-provider`: their tokens, their ID tokens, revocation, DPoP."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from flamecrest.sandbox.issuer import Issuer, SigningKey

from . import issuers
from .chromium import CHROMIUM, browser
from .issuers import Keycloak
from .process import gateway
from .site import Site, write_settings

pytestmark = pytest.mark.timeout(400)
REALM = "hpc"
SECRET = "portal-secret"


@dataclass(frozen=True)
class World:
    """A gateway and its two issuers."""

    api: str
    provider: str
    keycloak: Keycloak
    user: str
    system: str

    def get(self, token: str, path: str = "/status/systems", **headers: str) -> httpx.Response:
        sent = {"Authorization": f"Bearer {token}", **headers}
        return httpx.get(self.api + path, headers=sent, timeout=30, trust_env=False)

    def keycloak_tokens(
        self, path: str = "token", headers: dict[str, str] | None = None, **form: str
    ) -> httpx.Response:
        url = f"{self.keycloak.url}/realms/{REALM}/protocol/openid-connect/{path}"
        client = {"client_id": "portal", "client_secret": SECRET}
        return httpx.post(url, data=client | form, headers=headers, timeout=30, trust_env=False)

    def login(self, headers: dict[str, str] | None = None, **form: str) -> dict[str, Any]:
        """The tokens of the user by password, as Keycloak gives them."""
        asked = {"grant_type": "password", "username": self.user, "password": "hpc", "scope": "openid", **form}
        answer = self.keycloak_tokens(headers=headers, **asked)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def provider_tokens(self, **form: str) -> dict[str, Any]:
        asked = {"grant_type": "client_credentials", "scope": "firecrest", **form}
        basic = (f"{self.user}-client", f"{self.user}-client-secret")
        if self.user == "fireuser":
            basic = ("fire-client", "fire-client-secret")
        answer = httpx.post(f"{self.provider}/token", data=asked, auth=basic, timeout=30, trust_env=False)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def make_realm(keycloak: Keycloak, user: str) -> None:
    """A realm as centres have it: an audience by a mapper of a client scope, groups, a client role, a portal."""
    keycloak.make("", {"realm": REALM, "enabled": True, "accessTokenLifespan": 300})
    audience = {
        "name": "audience",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {"included.custom.audience": "flamecrest", "access.token.claim": "true", "id.token.claim": "true"},
    }
    groups = {
        "name": "groups",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-group-membership-mapper",
        "config": {"claim.name": "groups", "full.path": "false", "access.token.claim": "true"},
    }
    scope = {"name": "firecrest", "protocol": "openid-connect", "protocolMappers": [audience, groups]}
    keycloak.make(f"/{REALM}/client-scopes", {**scope, "attributes": {"include.in.token.scope": "true"}})
    for client, audiences in (("portal", ["firecrest"]), ("other", [])):
        keycloak.make(
            f"/{REALM}/clients",
            {
                "clientId": client,
                "secret": SECRET,
                "directAccessGrantsEnabled": True,
                "serviceAccountsEnabled": True,
                "standardFlowEnabled": True,
                "redirectUris": ["http://127.0.0.1/*"],
                "defaultClientScopes": ["basic", "profile", "email", *audiences],
                "attributes": {"standard.token.exchange.enabled": "true"},
            },
        )
    keycloak.make(f"/{REALM}/groups", {"name": "staff"})
    keycloak.make(
        f"/{REALM}/users",
        {
            "username": user,
            "enabled": True,
            "firstName": "A",
            "lastName": "B",
            "email": "a@b.example",
            "emailVerified": True,
            "groups": ["staff"],
            "credentials": [{"type": "password", "value": "hpc", "temporary": False}],
        },
    )


def make_docs_client(keycloak: Keycloak, api: str) -> None:
    """The public client of the page /docs, as docs/security.md says."""
    keycloak.make(
        f"/{REALM}/clients",
        {
            "clientId": "flamecrest-docs",
            "publicClient": True,
            "redirectUris": [f"{api}/docs/oauth2-redirect"],
            "webOrigins": [api],
            "defaultClientScopes": ["basic", "profile", "firecrest"],
            "attributes": {"pkce.code.challenge.method": "S256"},
        },
    )


@pytest.fixture(scope="module")
def world(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if reason := issuers.why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("issuers")
    with ExitStack() as stack:
        provider = stack.enter_context(issuers.oidc_provider(folder))
        keycloak = stack.enter_context(issuers.keycloak(folder))
        make_realm(keycloak, site.user)
        settings = site.settings(Issuer(), folder / "secret", probing=False)
        settings["auth"] = {
            "authentication": {
                "issuer": f"{keycloak.url}/realms/{REALM}",
                "audience": "flamecrest",
                "required_scopes": ["firecrest"],
                "docs_client_id": "flamecrest-docs",
                "scopes": {"firecrest": "Use of the API"},
                "introspection": {
                    "url": f"{keycloak.url}/realms/{REALM}/protocol/openid-connect/token/introspect",
                    "client_id": "portal",
                    "secret": SECRET,
                    "tokens": "jwt",
                    "life": 0.5,
                },
            },
            "issuers": [
                {
                    "issuer": provider,
                    "audience": "urn:hpc-api",
                    "introspection": {
                        "url": f"{provider}/token/introspection",
                        "client_id": "web",
                        "secret": "web-secret",
                        "life": 0.5,
                    },
                }
            ],
        }
        server = stack.enter_context(gateway(write_settings(settings, folder / "f.yaml"), folder / "gateway.log"))
        make_docs_client(keycloak, server.url)
        yield World(server.url, provider, keycloak, site.user, site.system)


def test_tokens_of_both_issuers(world: World) -> None:
    for token in (world.login()["access_token"], world.provider_tokens()["access_token"]):
        answer = world.get(token, f"/status/{world.system}/userinfo")
        assert answer.status_code == 200, answer.text
        assert answer.json()["user"]["name"] == world.user
        assert answer.headers["f7t-authusername"] == world.user


def test_clients_find_the_issuers(world: World) -> None:
    refused = httpx.get(f"{world.api}/status/systems", trust_env=False)
    assert refused.status_code == 401
    place = refused.headers["www-authenticate"].split('resource_metadata="')[1].split('"')[0]
    shown = httpx.get(place, trust_env=False).json()
    assert shown["resource"] == world.api
    for issuer in shown["authorization_servers"]:
        document = httpx.get(f"{issuer}/.well-known/openid-configuration", trust_env=False).json()
        assert document["issuer"] == issuer
    assert len(shown["authorization_servers"]) == 2


def test_other_tokens_of_keycloak_are_refused(world: World) -> None:
    tokens = world.login()
    for name in ("id_token", "refresh_token"):
        assert world.get(tokens[name]).status_code == 401, name
    other = httpx.post(
        f"{world.keycloak.url}/realms/{REALM}/protocol/openid-connect/token",
        data={"grant_type": "client_credentials", "client_id": "other", "client_secret": SECRET},
        trust_env=False,
    )
    assert world.get(other.json()["access_token"]).status_code == 401  # without the audience
    master = world.keycloak.admin.headers["authorization"].removeprefix("Bearer ")
    assert world.get(master).status_code == 401  # another realm of the same server
    service = world.keycloak_tokens(grant_type="client_credentials").json()["access_token"]
    answer = world.get(service)  # its user is `service-account-portal`
    assert answer.headers["f7t-authusername"] == "service-account-portal"
    header, claims, signature = tokens["access_token"].split(".")
    doctored = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))) | {
        "preferred_username": "user01"
    }
    claims = base64.urlsafe_b64encode(json.dumps(doctored).encode()).rstrip(b"=").decode()
    assert world.get(f"{header}.{claims}.{signature}").status_code == 401


def test_a_session_that_has_ended_is_noticed(world: World) -> None:
    tokens = world.login()
    assert world.get(tokens["access_token"]).status_code == 200
    assert world.keycloak_tokens("logout", refresh_token=tokens["refresh_token"]).status_code == 204
    until = time.monotonic() + 30
    while (answer := world.get(tokens["access_token"])).status_code != 401:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


class Sender:
    """A client with a key for DPoP."""

    def __init__(self) -> None:
        self.key = SigningKey.generate("ES256")
        self.jwk = {name: self.key.jwk()[name] for name in ("kty", "crv", "x", "y")}
        self.made = 0

    def proof(self, method: str, url: str, token: str = "") -> str:
        self.made += 1
        claims: dict[str, Any] = {"jti": f"{id(self)}-{self.made}", "htm": method, "htu": url, "iat": int(time.time())}
        if token:
            digest = hashlib.sha256(token.encode()).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return self.key.sign({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk}, claims)


def test_dpop_of_keycloak(world: World) -> None:
    sender, thief = Sender(), Sender()
    url = f"{world.keycloak.url}/realms/{REALM}/protocol/openid-connect/token"
    tokens = world.login(headers={"DPoP": sender.proof("POST", url)})
    assert tokens["token_type"] == "DPoP"
    token, target = tokens["access_token"], f"{world.api}/status/systems"
    good = sender.proof("GET", target, token)
    answer = world.get(token, Authorization=f"DPoP {token}", DPoP=good)
    assert answer.status_code == 200, answer.text
    again = world.get(token, Authorization=f"DPoP {token}", DPoP=good)
    assert again.status_code == 401
    assert again.headers["www-authenticate"].startswith("DPoP ")
    assert world.get(token).status_code == 401  # as a bearer token
    assert world.get(token, Authorization=f"DPoP {token}", DPoP=thief.proof("GET", target, token)).status_code == 401
    elsewhere = sender.proof("GET", f"{world.api}/status/liveness", token)
    assert world.get(token, Authorization=f"DPoP {token}", DPoP=elsewhere).status_code == 401


def test_made_up_opaque_token(world: World) -> None:
    """Only `oidc-provider` is asked about it."""
    assert world.get("made-up-token").status_code == 401


def test_exchanged_tokens_of_keycloak(world: World) -> None:
    """A service exchanges its user's token for one with the gateway's audience (RFC 8693)."""
    url = f"{world.keycloak.url}/realms/{REALM}/protocol/openid-connect/token"
    service = {"client_id": "portal", "client_secret": SECRET}
    subject = world.login()["access_token"]
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": subject,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }
    answer = httpx.post(url, data=form | service, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    exchanged = answer.json()["access_token"]
    assert exchanged != subject
    answer = world.get(exchanged, f"/status/{world.system}/userinfo")
    assert (answer.status_code, answer.json()["user"]["name"]) == (200, world.user)


FORM = "[...document.querySelectorAll('.auth-container')].find(e => e.innerText.includes('authorization_code'))"
FORMS = "document.querySelectorAll('.auth-container').length"
DISCOVERED = "JSON.stringify(ui.getSystem().authSelectors.definitionsToAuthorize()).includes('authorization_code')"
FIELDS = "['#username', '#password', '#kc-login'].map(one => document.querySelector(one))"
OPERATION = "#operations-status-get_systems_status_systems_get"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_logs_in_on_the_page_docs(world: World, tmp_path: Path) -> None:
    """Swagger UI's Authorize opens Keycloak's form, comes back with a code, and sends requests with the token."""
    with browser(tmp_path, f"{world.api}/") as chromium:  # which redirects
        docs = chromium.page(f"{world.api}/docs")
        docs.wait(DISCOVERED)  # the dialog shows what is known when it opens
        docs.click("button.authorize")
        docs.wait(f"!!{FORM}")
        docs.screenshot(tmp_path / "forms.png")
        assert docs.run(FORMS) == 2  # a token that is pasted, and the login: not all flows that Keycloak knows
        docs.wait(f"(e => e && (e.querySelector('button.authorize').click(), true))({FORM})")
        form = chromium.page(f"{world.keycloak.url}/realms/{REALM}/")
        form.wait("!!document.querySelector('#kc-login')")
        values = f"user.value = {json.dumps(world.user)}, word.value = 'hpc'"
        form.run(f"(([user, word, button]) => ({values}, button.click()))({FIELDS})")
        docs.wait(f"{FORM}.innerText.includes('Authorized')")
        docs.click(".auth-btn-wrapper .btn-done")
        docs.click(f"{OPERATION} button.opblock-summary-control")
        docs.click(f"{OPERATION} .try-out__btn")
        docs.click(f"{OPERATION} button.execute")
        shown = docs.wait(f"document.querySelector('{OPERATION} .live-responses-table .microlight')?.innerText")
        docs.screenshot(tmp_path / "docs.png")
    assert world.system in shown, shown
