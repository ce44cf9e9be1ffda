"""Security schemes of the OpenAPI document: the bearer token and, if scopes are configured, OAuth 2.0."""

from __future__ import annotations

from pathlib import Path

from flamecrest.server.app import create_app
from flamecrest.server.settings import load

MINIMAL = Path(__file__).parents[2] / "unit" / "settings" / "minimal.yaml"
PREFIX = "FLAMECREST__AUTH__AUTHENTICATION__"


def test_scopes_are_shown_with_the_token_endpoint() -> None:
    url = "https://id.example.org/token"
    environ = {f"{PREFIX}SCOPES": "{openid: User identity}", f"{PREFIX}TOKEN_URL": url}
    document = create_app(load(MINIMAL, environ)).openapi()
    assert document["components"]["securitySchemes"]["OAuth2"] == {
        "type": "oauth2",
        "flows": {"clientCredentials": {"tokenUrl": url, "scopes": {"openid": "User identity"}}},
    }
    assert document["paths"]["/status/systems"]["get"]["security"] == [{"HTTPBearer": []}, {"OAuth2": []}]
    assert document["paths"]["/status/liveness/"]["get"]["security"] == []


def test_only_bearer_token_without_scopes() -> None:
    document = create_app(load(MINIMAL, {})).openapi()
    assert list(document["components"]["securitySchemes"]) == ["HTTPBearer"]
    assert document["paths"]["/status/systems"]["get"]["security"] == [{"HTTPBearer": []}]
