"""Certificates of the gateway at real OpenSSH: accepted, refused, rotated, revoked; keys in an agent and a token."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pkcs11
import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.credentials.authority import AuthorityCredentials, CertificateRules
from flamecrest.server.ssh.credentials.certificates import Certificate, Signer, line
from flamecrest.server.ssh.credentials.signers import AgentSigner, KeySigner, TokenSigner
from flamecrest.server.ssh.errors import CredentialsFailed, CredentialsUnavailable, LoginRefused
from flamecrest.server.ssh.host_keys import HostKeyVerifier
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.pool.policy import PoolLimits
from flamecrest.server.ssh.pool.pool import Pool
from flamecrest.server.ssh.session import PooledSessions

from .accounts import new_user
from .process import free_port, running

pytestmark = pytest.mark.anyio

USER = "sshcauser"
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
TrustedUserCAKeys {folder}/trusted
RevokedKeys {folder}/revoked
AuthorizedKeysFile none
AuthenticationMethods publickey
MaxAuthTries 2
LogLevel VERBOSE
StrictModes no
UsePAM no
PidFile none
"""


@dataclass(frozen=True, slots=True)
class Node:
    """An sshd that knows no user's key; it trusts the keys in the file `trusted`, and reads it at each login."""

    folder: Path
    port: int
    trust: HostKeyVerifier

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def trusts(self, *public_keys: bytes) -> None:
        (self.folder / "trusted").write_text("".join(f"{line(key)}\n" for key in public_keys))

    @asynccontextmanager
    async def pool(self, *signers: Signer, age: float = 3600.0, clock=time.time, **rules: Any) -> AsyncIterator[Pool]:
        made = CertificateRules(**rules)
        credentials = AuthorityCredentials(signers, made, "one", clock)
        limits = PoolLimits(tick=0.05, age=age)
        async with Pool([Host("127.0.0.1", self.port)], credentials, self.trust, limits) as pool:
            yield pool


@pytest.fixture(scope="module")
def account() -> Iterator[None]:
    with new_user(USER):
        yield


@pytest.fixture(scope="module")
def node(account: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder, port = tmp_path_factory.mktemp("sshd"), free_port()
    host = asyncssh.generate_private_key("ssh-ed25519")
    host.write_private_key(folder / "host")
    (folder / "host").chmod(0o600)
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
    found = Node(folder, port, HostKeyVerifier(pinned=[host.export_public_key("openssh").decode()]))
    with running(["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")], folder / "log", lambda: _up(port)):
        yield found


@pytest.fixture
def signer(node: Node) -> KeySigner:
    """An authority that the node trusts; nothing is revoked."""
    (node.folder / "revoked").write_text("")
    key = asyncssh.generate_private_key("ssh-ed25519")
    node.trusts(key.public_data)
    return KeySigner(key.export_private_key().decode())


def _up(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def log_in(pool: Pool) -> str:
    whoami = Command(("id", "-un"), lambda output: output.text().strip())
    return await PooledSessions(pool).of(Identity(USER, client="portal")).run(whoami, Deadline.after(30))


async def certificate(pool: Pool) -> Certificate:
    assert await log_in(pool) == USER
    found = pool.all_connections()[-1].certificate
    assert found is not None
    return found


async def test_the_log_of_the_server_names_key_id_and_serial_number(node: Node, signer: KeySigner) -> None:
    before = len(node.log)
    async with node.pool(signer, key_id="flamecrest {user} {client}", source_address=["127.0.0.0/8"]) as pool:
        found = await certificate(pool)
    (accepted,) = re.findall(r"Accepted publickey for .*", node.log[before:])
    assert f"ID flamecrest {USER} portal (serial {found.serial}) CA ED25519 {found.authority}" in accepted
    assert "Failed publickey" not in node.log[before:]  # the certificate alone is offered


@pytest.mark.parametrize(
    ("rules", "shift", "said"),
    [
        ({}, -3600, "Certificate invalid: expired"),
        ({}, 3600, "Certificate invalid: not yet valid"),
        ({"principals": ["not-{user}"]}, 0, "Certificate invalid: name is not a listed principal"),
        ({"source_address": ["192.0.2.0/24"]}, 0, "not from a permitted source address"),
    ],
    ids=["expired", "not valid yet", "wrong principal", "wrong source"],
)
async def test_a_certificate_that_does_not_fit_is_refused(
    node: Node, signer: KeySigner, rules: dict[str, Any], shift: float, said: str
) -> None:
    before = len(node.log)
    async with node.pool(signer, clock=lambda: time.time() + shift, **rules) as pool:
        with pytest.raises(LoginRefused, match=f"did not accept the SSH credentials of {USER}"):
            await log_in(pool)
    assert said in node.log[before:]


async def test_two_keys_replace_each_other_without_an_outage(node: Node, signer: KeySigner) -> None:
    new = KeySigner(asyncssh.generate_private_key("ecdsa-sha2-nistp384").export_private_key().decode())
    async with node.pool(new, signer) as pool:
        assert await log_in(pool) == USER  # the node trusts the old one
    node.trusts(await signer.public_key(), await new.public_key())
    for one in (new, signer):
        async with node.pool(one) as pool:
            assert await log_in(pool) == USER
    node.trusts(await new.public_key())
    async with node.pool(new, signer) as pool:
        assert await log_in(pool) == USER
    async with node.pool(signer) as pool:
        with pytest.raises(LoginRefused):
            await log_in(pool)


@pytest.mark.parametrize("what", ["serial: {serial}-{later}", f"id: flamecrest {USER} portal", "key of the authority"])
async def test_revoked_certificates_are_refused(node: Node, signer: KeySigner, what: str) -> None:
    async with node.pool(signer) as pool:
        serial = (await certificate(pool)).serial
    public = node.folder / "ca.pub"
    public.write_text(line(await signer.public_key()) + "\n")
    if what.startswith("key"):
        argv = ["ssh-keygen", "-k", "-f", "revoked", str(public)]
    else:
        (node.folder / "spec").write_text(what.format(serial=serial, later=serial + (3_600_000 << 20)) + "\n")
        argv = ["ssh-keygen", "-k", "-f", "revoked", "-s", str(public), "spec"]
    subprocess.run(argv, cwd=node.folder, check=True, capture_output=True)
    async with node.pool(signer) as pool:
        with pytest.raises(LoginRefused):
            await log_in(pool)


async def test_a_disabled_account_loses_its_connection_at_its_age(node: Node, signer: KeySigner) -> None:
    async with node.pool(signer, age=1.0) as pool:
        assert await log_in(pool) == USER
        subprocess.run(["usermod", "--expiredate", "1", USER], check=True)
        try:
            until = time.monotonic() + 30
            with pytest.raises(LoginRefused):
                while time.monotonic() < until:
                    await log_in(pool)
        finally:
            subprocess.run(["usermod", "--expiredate", "", USER], check=True)


async def test_a_forced_command_is_run_in_place_of_every_other(node: Node, signer: KeySigner) -> None:
    async with node.pool(signer, force_command="echo forced >&2; exit 3") as pool:
        with pytest.raises(GatewayError, match="forced"):
            await log_in(pool)


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ssh-rsa"])
async def test_a_key_in_an_agent(node: Node, signer: KeySigner, tmp_path: Path, kind: str) -> None:
    where = tmp_path / "agent"
    key = asyncssh.generate_private_key(kind)
    key.write_private_key(tmp_path / "ca")
    (tmp_path / "ca").chmod(0o600)
    node.trusts(key.public_data)
    agent = AgentSigner(str(where), key.export_public_key().decode())
    with running(["ssh-agent", "-D", "-a", str(where)], tmp_path / "log", where.exists):
        async with node.pool(agent) as pool:
            with pytest.raises(CredentialsUnavailable, match="does not sign"):
                await log_in(pool)
            subprocess.run(["ssh-add", "-q", "ca"], cwd=tmp_path, env={"SSH_AUTH_SOCK": str(where)}, check=True)
            assert await log_in(pool) == USER
    async with node.pool(agent) as pool:
        with pytest.raises(CredentialsUnavailable, match="does not sign"):
            await log_in(pool)


@pytest.mark.skipif(not SOFTHSM.exists(), reason="SoftHSM is not installed")
async def test_a_key_in_a_token(node: Node, signer: KeySigner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    argv = ["softhsm2-util", "--init-token", "--free", "--label", "gateway", "--so-pin", "9876", "--pin", "1234"]
    subprocess.run(argv, check=True, capture_output=True)
    with pkcs11.lib(str(SOFTHSM)).get_token(token_label="gateway").open(user_pin="1234", rw=True) as session:
        session.generate_keypair(pkcs11.KeyType.RSA, 2048, label="ssh-ca", store=True)
    token = TokenSigner(str(SOFTHSM), "gateway", "ssh-ca", "1234")
    node.trusts(await token.public_key())
    async with node.pool(token) as pool:
        assert (await certificate(pool)).principals == (USER,)
    with pytest.raises(CredentialsFailed, match="labelled other"):
        await TokenSigner(str(SOFTHSM), "gateway", "other", "1234").sign(b"data")
