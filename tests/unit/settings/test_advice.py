"""Warnings about valid configurations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from flamecrest.server.settings import Settings, warnings

Read = Callable[..., Settings]


def test_a_good_configuration_deserves_no_warning(read: Read, minimal: str) -> None:
    settings = read(minimal)
    assert warnings(settings) == []


STORE = (
    "{service_type: s3, name: s3, private_url: https://s3, public_url: https://s3, access_key_id: i, "
    "secret_access_key: s, region: r, ttl: 60, multipart: {use_split: true}}"
)


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ("auth:\n", "metrics: {host: 0.0.0.0}\nauth:\n", "who reaches 0.0.0.0 port 9464 can read them, set `token`"),
        ("issuer: https://id.example.org/realms/hpc", "public_certs: [https://id/certs]", "issuer is not set"),
        ("    audience: flamecrest\n", "", "audience is not set"),
        ("https://id.example.org", "http://id.example.org", "http://id.example.org is not encrypted"),
        ("host: login", "host_keys: {policy: off}\n      host: login", "cluster daint: ssh.host_keys.policy is off"),
        ("    file_systems:\n      - path: /home\n        data_type: users\n", "", "cluster daint: no file_systems"),
        (
            "name: daint",
            "name: daint\n    ssh_credentials: {type: SSHCA, url: 'http://ca.example.org'}",
            "cluster daint: ssh_credentials.url: http://ca.example.org is not encrypted",
        ),
        (
            "name: daint",
            "name: daint\n    data_operation: {data_transfer: {service_type: streamer}}",
            "cluster daint: data_transfer.public_ips is not set",
        ),
    ],
)
def test_a_warning(read: Read, minimal: str, old: str, new: str, warning: str) -> None:
    assert old in minimal
    (found,) = warnings(read(minimal.replace(old, new)))
    assert warning in found


RULES = "  authorization: {rules: [{name: a, clusters: [DAINT, test-*]},\n    {name: b, clusters: daimt}]}\n"


def test_rules_about_clusters_that_are_not_there(read: Read, minimal: str) -> None:
    found = warnings(read(minimal.replace("auth:\n", f"auth:\n{RULES}")))
    assert [text.partition(": ")[2] for text in found] == [
        "rule a: `test-*` matches no cluster (daint)",
        "rule b: `daimt` matches no cluster (did you mean daint? daint)",
    ]
    assert [text.partition(": ")[0].rpartition(":")[2] for text in found] == ["2", "3"]


def test_a_secret_that_every_account_can_read(read: Read, minimal: str, tmp_path: Path) -> None:
    key = tmp_path / "token_key"
    key.write_text("k" * 40)
    given = f"auth:\n  tokens: {{folder: /var/lib/tokens, signing_key: 'secret_file:{key}'}}\n"
    for mode, count in ((0o644, 1), (0o640, 0), (0o600, 0)):
        key.chmod(mode)
        found = warnings(read(minimal.replace("auth:\n", given)))
        assert [str(key) in text for text in found] == [True] * count


def test_dpop_needs_a_configured_address(read: Read, minimal: str) -> None:
    bound = minimal.replace("    audience", "    bound_tokens_only: true\n    audience")
    assert ["Host header" in text for text in warnings(read(bound))] == [True]
    assert warnings(read(f"{bound}\ntransfers: {{public_url: 'https://api.example.org'}}\n")) == []


@pytest.mark.parametrize(
    ("probing", "warned"),
    [("{interval_check: 9}", True), ("{}", True), ("{retry_interval: 9}", False), ("{failed_requests: 9}", False)],
)
def test_probing_without_services_is_of_use_for_breakers_only(
    read: Read, minimal: str, probing: str, warned: bool
) -> None:
    text = minimal.replace("name: daint", f"name: daint\n    probing: {probing}")
    assert ["probing has no effect" in one for one in warnings(read(text))] == [True] * warned


def test_probing_needs_an_account_and_where_it_gets_its_token(read: Read, minimal: str) -> None:
    probing = minimal.replace("name: daint", "name: daint\n    probing: {services: {ssh: {}}}")
    account = probing.replace("name: daint", "name: daint\n    service_account: {client_id: x, secret: ''}")
    both = account.replace("    audience", "    token_url: https://id.example.org/token\n    audience")
    assert ["service_account" in text or "token_url" in text for text in warnings(read(probing))] == [True, True]
    assert ["token_url" in text for text in warnings(read(account))] == [True]
    assert warnings(read(both)) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "id.localhost", "127.8.8.8"])
def test_loopback_needs_no_encryption(read: Read, minimal: str, host: str) -> None:
    assert warnings(read(minimal.replace("https://id.example.org", f"http://{host}:8080"))) == []


def test_no_clusters_and_no_keys(read: Read, minimal: str) -> None:
    text = minimal[: minimal.index("ssh_credentials")] + "ssh_credentials: {keys: {}}\n"
    assert [warning.split(":")[0] for warning in warnings(read(text))] == ["clusters", "ssh_credentials"]


@pytest.mark.parametrize(("clusters", "warned"), [(1, False), (2, True)])
def test_no_keys_for_the_clusters_without_credentials_of_their_own(
    read: Read, minimal: str, clusters: int, warned: bool
) -> None:
    shared, _, daint = minimal.partition("clusters:\n")
    (key,) = [line.strip() for line in shared.splitlines() if "private_key" in line]
    own = f"name: daint\n    ssh_credentials: {{type: SSHStaticKeys, keys: {{alice: {{{key}}}}}}}"
    text = shared[: shared.index("  keys:")] + "  keys: {}\nclusters:\n" + daint.replace("name: daint", own)
    text += daint.replace("daint", "eiger") * (clusters - 1)
    assert ["no user has a key" in warning for warning in warnings(read(text))] == [True] * warned


def test_the_discovery_address_means_its_issuer(read: Read, minimal: str) -> None:
    text = minimal.replace("realms/hpc", "realms/hpc/.well-known/openid-configuration")
    assert read(text).auth.authentication.issuer == "https://id.example.org/realms/hpc"


def test_host_keys(read: Read, minimal: str, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    text = minimal.replace("host: login", f"host_keys: {{known_hosts: {known}, policy: accept-new}}\n      host: login")
    keys = read(text).clusters[0].ssh.host_keys
    assert (keys.known_hosts, keys.policy) == ((known,), "accept-new")


def test_settings_are_frozen(read: Read, minimal: str) -> None:
    settings = read(minimal)
    with pytest.raises(ValidationError, match="frozen"):
        settings.app_debug = True
    with pytest.raises(ValidationError, match="frozen"):
        settings.clusters[0].ssh.port = 5
    assert isinstance(settings.clusters, tuple)
