"""What `check` says of keys that can't be read, of a service account, and of a login node with another host key."""

from __future__ import annotations

import asyncio

import asyncssh
import pytest
import yaml
from typer.testing import CliRunner

from flamecrest.cli.main import app
from flamecrest.server.ssh.host_keys import known_hosts_line
from tests.unit.cli.test_connect import Centre, centre  # noqa: F401 -- a fixture

pytestmark = pytest.mark.anyio

KEY = asyncssh.generate_private_key("ssh-ed25519")
SERVICE = {"client_id": "probes", "secret": "right"}
SUBJECT = "one: service account probes"


def encrypted(passphrase: str) -> str:
    """The key in PKCS #8, whose encryption is quick."""
    return KEY.export_private_key("pkcs8-pem", passphrase=passphrase).decode()


async def test_a_service_account_gets_a_token_and_logs_in(centre: Centre) -> None:  # noqa: F811
    centre.issuer.clients["probes"] = ("right", "ann")
    assert SUBJECT not in await centre.findings()
    centre.cluster["service_account"] = SERVICE
    found = (await centre.findings("bob"))[SUBJECT]
    assert (found.ok, found.message.startswith("logs in as ")) == (True, True)


@pytest.mark.parametrize(
    ("client", "audience", "token_url", "said", "advice"),
    [
        (("wrong", "ann"), "flamecrest", True, "invalid_client", "service_account.client_id and secret"),
        (("right", "ann"), "another", True, "the audience does not match", "issuer, audience and user name"),
        (("right", "cyd"), "flamecrest", True, "No SSH key", "add a key of this account"),
        (("right", "ann"), "flamecrest", False, "no token_url", "set auth.authentication.token_url"),
    ],
)
async def test_a_service_account_that_cannot_work(
    centre: Centre,  # noqa: F811
    client: tuple[str, str],
    audience: str,
    token_url: bool,
    said: str,
    advice: str,
) -> None:
    centre.issuer.clients["probes"], centre.issuer.audience = client, audience
    authentication = centre.config["auth"]["authentication"]
    authentication["audience"] = "flamecrest"
    if not token_url:
        del authentication["token_url"]
    centre.cluster["service_account"] = SERVICE
    findings = await centre.findings()
    found = findings[SUBJECT]
    assert not found.ok
    assert said in found.message
    assert advice in found.advice
    assert "right" not in found.message + found.advice
    assert findings["one: slurm"].ok


async def test_keys_that_cannot_be_read_are_named(centre: Centre) -> None:  # noqa: F811
    public = "it is a public key: give the private one"
    keys: dict[str, tuple[str, str | None, str]] = {
        "right": (encrypted("secret"), "secret", ""),
        "openssh": (KEY.export_public_key().decode(), None, public),
        "rfc4716": (KEY.export_public_key("rfc4716").decode(), None, public),
        "pem": (KEY.export_public_key("pkcs8-pem").decode(), None, public),
        "encrypted": (encrypted("secret"), None, "it is encrypted: set `passphrase`"),
        "passphrase": (encrypted("secret"), "terces", "KeyImportError: Unable to decrypt"),
        "cut": ("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n", None, "KeyImportError: "),
        "bob": ("hunter2", None, "KeyImportError: Invalid private key"),
        "long": ("\ud7ff" * 10_000, None, "KeyImportError: "),
    }
    given = {
        user: {"private_key": private} | ({} if passphrase is None else {"passphrase": passphrase})
        for user, (private, passphrase, _) in keys.items()
    }
    centre.cluster["ssh_credentials"] = {"type": "SSHStaticKeys", "keys": given}
    path = centre.root / "config.yaml"
    path.write_text(yaml.safe_dump(centre.config, sort_keys=False))
    result = await asyncio.to_thread(CliRunner().invoke, app, ["check", str(path)])
    assert result.exit_code == 0, result.output
    about = [line for line in result.output.splitlines() if "can't be read" in line]
    assert len(about) == len(keys) - 1, result.output
    for line, (user, (_, _, said)) in zip(about, list(keys.items())[1:], strict=True):
        begin = f"warning: cluster one: ssh_credentials.keys.{user}.private_key can't be read, {user} can't log in: "
        assert line.startswith(begin + said), line
    assert "hunter2" not in result.output
    finding = next(iter((await centre.findings("bob")).values()))
    assert (finding.ok, "passphrase" in finding.advice) == (False, True)
    assert "Invalid private key" in finding.message


async def test_the_line_of_a_changed_host_key_is_to_be_replaced(centre: Centre) -> None:  # noqa: F811
    port = centre.cluster["ssh"]["port"]
    known = centre.root / "known_hosts"
    known.write_text(known_hosts_line("127.0.0.1", port, asyncssh.generate_private_key("ssh-ed25519")) + "\n")
    centre.cluster["ssh"]["host_keys"] = {"known_hosts": str(known)}
    path = centre.root / "config.yaml"
    path.write_text(yaml.safe_dump(centre.config))
    command = ["check", str(path), "--connect", "--user", "ann"]
    result = await asyncio.to_thread(CliRunner().invoke, app, command, env={"COLUMNS": "1000"})
    assert result.exit_code == 1, result.output
    assert "has changed" in result.output
    assert "replace the old line" in result.output
