"""Certificates: what is encoded is what asyncssh, cryptography and OpenSSH read."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.ssh.credentials.authority import fill, pairs, printable, serial_number
from flamecrest.server.ssh.credentials.certificates import Request, first_string, inspect, issue, line, sha256
from flamecrest.server.ssh.credentials.signers import KeySigner
from flamecrest.server.ssh.errors import CredentialsFailed

pytestmark = pytest.mark.anyio

NOW = int(time.time())
USER = asyncssh.generate_private_key("ssh-ed25519")
KINDS = ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521"]


def key_text(kind: str = "ssh-ed25519") -> str:
    return asyncssh.generate_private_key(kind).export_private_key().decode()


def request(**changes: object) -> Request:
    fields: dict[str, object] = {
        "public_key": USER.public_data,
        "serial": 2**64 - 1,
        "key_id": "flamecrest ann",
        "principals": ["ann", "ann@daint"],
        "valid_after": NOW - 60,
        "valid_before": NOW + 300,
    }
    return Request(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
async def test_certificates_are_read_by_others(kind: str) -> None:
    signer = KeySigner(key_text(kind))
    text = await issue(request(), signer)
    certificate = inspect(text)  # cryptography checks the signature
    assert (certificate.serial, certificate.key_id) == (2**64 - 1, "flamecrest ann")
    assert certificate.principals == ("ann", "ann@daint")
    assert (certificate.valid_after, certificate.valid_before) == (NOW - 60, NOW + 300)
    assert certificate.authority == sha256(await signer.public_key())
    assert [pair.has_cert for pair in pairs(USER, text)] == [True]


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
async def test_openssh_reads_options_and_extensions(tmp_path: Path) -> None:
    wanted = request(
        force_command="/bin/echo 'a b'",
        source_address=["192.0.2.7/32", "2001:db8::/64"],
        extensions=["permit-pty", "permit-port-forwarding"],
    )
    path = tmp_path / "cert.pub"
    path.write_text(await issue(wanted, KeySigner(key_text())) + "\n")
    shown = subprocess.run(["ssh-keygen", "-L", "-f", path], capture_output=True, text=True, check=True).stdout
    words = " ".join(shown.split())
    assert "Type: ssh-ed25519-cert-v01@openssh.com user certificate" in words
    assert "Serial: 18446744073709551615" in words
    assert "Principals: ann ann@daint Critical Options: force-command /bin/echo 'a b'" in words
    assert "source-address 192.0.2.7/32,2001:db8::/64 Extensions: permit-port-forwarding permit-pty" in words


async def test_a_certificate_needs_its_own_key() -> None:
    text = await issue(request(), KeySigner(key_text()))
    with pytest.raises(CredentialsFailed):
        pairs(asyncssh.generate_private_key("ssh-ed25519"), text)


async def test_a_changed_certificate_is_refused() -> None:
    text = await issue(request(), KeySigner(key_text()))
    kind, data = text.split()
    for at in (60, 150, 250, len(data) - 20):
        changed = data[:at] + ("A" if data[at] != "A" else "B") + data[at + 1 :]
        with pytest.raises(ValueError):
            inspect(f"{kind} {changed}")


async def test_a_host_certificate_and_a_bare_key_are_refused() -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    host = authority.generate_host_certificate(USER, "host", principals=["ann"])
    for text in (host.export_certificate().decode(), USER.export_public_key().decode()):
        with pytest.raises(ValueError):
            inspect(text)


@given(st.text() | st.binary().map(lambda data: f"ssh-ed25519-cert-v01@openssh.com {data.hex()}"))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(ValueError):
        inspect(text)


@given(st.binary(max_size=8))
def test_a_string_that_is_cut_off_is_refused(data: bytes) -> None:
    try:
        value, rest = first_string(data)
    except ValueError:
        assert len(data) < 4 or int.from_bytes(data[:4]) > len(data) - 4
    else:
        assert data[4:] == value + rest


def test_a_wrong_passphrase_and_no_key_are_clear_errors() -> None:
    data = asyncssh.generate_private_key("ssh-ed25519").export_private_key(
        passphrase="right", rounds=1, ignore_few_rounds=True
    )
    locked = data.decode()
    assert KeySigner(locked, "right")
    for text, passphrase in ((locked, "wrong"), (locked, None), ("no key", None)):
        with pytest.raises(CredentialsFailed) as caught:
            KeySigner(text, passphrase)
        assert "certificate authority can't be read" in caught.value.public
        assert text not in f"{caught.value.detail}"


def test_templates_are_filled_once() -> None:
    assert fill("{user}@{cluster}", {"user": "{cluster}", "cluster": "one"}) == "{cluster}@one"
    assert printable("ann\nroot\x1b[2J é " + "x" * 999) == ("ann root?[2J ? " + "x" * 999)[:256]


def test_serial_numbers_grow_and_differ() -> None:
    first = [serial_number(1_700_000_000.0) for _ in range(20)]
    assert len(set(first)) > 1
    assert max(first) < serial_number(1_700_000_000.001) < 2**64


def test_a_line_is_that_of_a_public_key_file() -> None:
    assert line(USER.public_data, "note") == USER.export_public_key().decode().strip() + " note"
