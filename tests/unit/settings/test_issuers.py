"""Settings of several issuers: mistakes are refused, and what is incomplete or insecure is warned about."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from flamecrest.server.settings import Settings, SettingsError, warnings

INTROSPECTION = "introspection: {url: https://a/i, client_id: me, secret: hidden}"


def with_auth(minimal: str, text: str) -> str:
    changed, count = re.subn("auth:\n", f"auth:\n{text}", minimal)
    assert count == 1
    return changed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  issuers: [{issuer: https://id.example.org/realms/hpc}]\n", "same issuer twice"),
        (
            "  issuers: [{issuer: https://a}, {issuer: https://a/.well-known/openid-configuration}]\n",
            "same issuer twice",
        ),
        ("  issuers: [{public_certs: [https://a/keys]}]\n", "needs `issuer`"),
        ("  issuers: [{audience: me}]\n", "has no keys"),
        ("  issuers: [{issuer: https://a, token_url: https://a/t}]\n", "token_url"),
        ("  authorization: {url: https://f/check, openfga: {model: 1}}\n", "`openfga.model` without a store"),
        ("  authorization: {url: https://f/stores/1, openfga: {store: 1}}\n", "names the store twice"),
        ("  issuers: [{issuer: https://a, token_types: [ID]}]\n", "token_types"),
        ("  issuers: [{issuer: https://a, token_types: []}]\n", "token_types"),
        ("  issuers: [{issuer: https://a, algorithms: [HS256]}]\n", "algorithms"),
        ('  issuers: [{issuer: https://a, cluster_accounts: {x: {username_pattern: "("}}}]\n', "regular expression"),
        ('  issuers: [{issuer: https://a, cluster_accounts: {x: {account_template: "{no}"}}}]\n', "placeholder"),
        ("  issuers: [{issuer: https://a, cluster_accounts: {x: {accounts: {ann: root}}}}]\n", "cannot be an account"),
        (
            f"  issuers: [{{issuer: https://a, {INTROSPECTION}}}, {{issuer: https://b, {INTROSPECTION}}}]\n",
            "more than one issuer that introspects",
        ),
    ],
)
def test_mistakes(read: Callable[[str], Settings], minimal: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        read(with_auth(minimal, text))
    assert "hidden" not in str(caught.value)


def test_two_issuers_may_introspect_if_one_is_asked_about_its_own_tokens_only(
    read: Callable[[str], Settings], minimal: str
) -> None:
    own = INTROSPECTION.replace("{", "{tokens: jwt, ")
    text = f"  issuers: [{{issuer: https://a, {INTROSPECTION}}}, {{issuer: https://b, {own}}}]\n"
    assert len(read(with_auth(minimal, text)).auth.issuers) == 2


def test_warnings(read: Callable[[str], Settings], minimal: str) -> None:
    text = (
        "  client_certificate_header: client-cert\n"
        "  issuers: [{issuer: http://id.partner.example, cluster_accounts: {nowhere: {}, DAINT: {}}}]\n"
    )
    found = "\n".join(warnings(read(with_auth(minimal, text) + "server: {trusted_proxies: []}\n")))
    for part in (
        "auth.issuers.0.audience is not set",
        "auth.issuers.0.issuer: http://id.partner.example is not encrypted",
        "auth.issuers.0.cluster_accounts has 'nowhere', which is no cluster",
        "auth.client_certificate_header has no effect",
    ):
        assert part in found
    assert "DAINT" not in found
