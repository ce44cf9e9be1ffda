"""Logins by certificates that the gateway signs, to a real SSH server that trusts its key."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncssh
import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.credentials.authority import AuthorityCredentials, CertificateRules
from flamecrest.server.ssh.credentials.certificates import Certificate
from flamecrest.server.ssh.credentials.port import Credential
from flamecrest.server.ssh.credentials.signers import AgentSigner, KeySigner, TokenSigner
from flamecrest.server.ssh.errors import CredentialsFailed, CredentialsUnavailable, LoginRefused
from flamecrest.server.ssh.pool.connection import Connection
from flamecrest.server.ssh.pool.policy import PoolLimits
from flamecrest.server.ssh.pool.pool import Pool
from flamecrest.server.ssh.session import PooledSessions
from flamecrest.server.telemetry.trace import Trace, current_trace

pytestmark = pytest.mark.anyio

ANN, BOB = Identity("ann", client="portal"), Identity("bob")
AUTHORITY = asyncssh.generate_private_key("ssh-ed25519")
OTHER = asyncssh.generate_private_key("ssh-ed25519")


def signer(key: asyncssh.SSHKey = AUTHORITY) -> KeySigner:
    return KeySigner(key.export_private_key().decode())


def authority(*keys: asyncssh.SSHKey, clock=time.time, **rules) -> AuthorityCredentials:
    signers = [signer(key) for key in keys or (AUTHORITY,)]
    return AuthorityCredentials(signers, CertificateRules(**rules), "one", clock)


@pytest.fixture
def trusting(world):
    """The server, which trusts the authority and knows no keys."""
    world.server.keys.clear()
    world.server.authorities.add(AUTHORITY.public_data)
    return world


@asynccontextmanager
async def pool_of(world, credentials, **limits) -> AsyncIterator[Pool]:
    made = PoolLimits(**{"tick": 0.02, **limits})
    async with Pool([world.host()], credentials, world.known_hosts(), made) as pool:
        yield pool


def facts(of: Connection | Credential) -> Certificate:
    assert of.certificate is not None
    return of.certificate


async def log_in(pool: Pool, who: Identity = ANN, seconds: float = 30.0) -> str:
    whoami = Command(("sh", "-c", "echo $USER"), lambda output: output.text().strip())
    return await PooledSessions(pool).of(who).run(whoami, Deadline.after(seconds))


async def test_each_login_has_a_certificate_of_its_user(trusting):
    async with pool_of(trusting, authority(key_id="gateway {user} {client} on {cluster}")) as pool:
        assert [await log_in(pool), await log_in(pool, BOB)] == ["ann", "bob"]
        ann, bob = (facts(connection) for connection in pool.all_connections())
    assert (ann.key_id, ann.principals) == ("gateway ann portal on one", ("ann",))
    assert (bob.key_id, bob.principals) == ("gateway bob on one", ("bob",))
    assert ann.serial != bob.serial


async def test_the_trace_of_a_request_names_its_certificate(trusting):
    async with pool_of(trusting, authority()) as pool:
        for use in range(3):  # a new login, a shell that was started ahead, a channel that is shared
            trace = Trace("id", "id")
            token = current_trace.set(trace)
            session = PooledSessions(pool).of(ANN)
            await (session.stat("/", Deadline.after(30), follow=True) if use == 2 else log_in(pool))
            current_trace.reset(token)
            (connection,) = pool.all_connections()
            assert trace.certificate_serial == facts(connection).serial


@pytest.mark.parametrize(
    "credentials",
    [
        authority(OTHER),
        authority(principals=["not-{user}"]),
        authority(source_address=["192.0.2.7/32"]),
        authority(clock=lambda: time.time() - 3600),
        authority(clock=lambda: time.time() + 3600),
    ],
    ids=["another authority", "wrong principal", "wrong source", "expired", "not valid yet"],
)
async def test_a_certificate_that_does_not_fit_is_refused(trusting, credentials):
    async with pool_of(trusting, credentials) as pool:
        with pytest.raises(LoginRefused, match="did not accept the SSH credentials of ann"):
            await log_in(pool)


async def test_either_of_two_keys_is_trusted(trusting):
    for keys in ((AUTHORITY, OTHER), (OTHER, AUTHORITY)):
        async with pool_of(trusting, authority(*keys)) as pool:
            assert await log_in(pool) == "ann"


async def test_a_new_certificate_is_no_new_try_for_a_refused_user(trusting):
    """Each login has a new key, but a server that refuses one refuses the next: it is not asked with every request."""
    trusting.server.faults.disabled.add("ann")
    async with pool_of(trusting, authority()) as pool:
        for _ in range(5):
            with pytest.raises(LoginRefused):
                await log_in(pool)
        assert trusting.server.counts.connections == 1


async def test_fingerprints_tell_users_and_rules_apart():
    def fingerprint(who: Identity = ANN, **rules):
        return authority(**rules).obtain(who, Deadline.after(20), 60)

    first = (await fingerprint()).fingerprint
    assert first == (await fingerprint()).fingerprint
    assert (
        len({first, *[(await f).fingerprint for f in (fingerprint(BOB), fingerprint(extensions=["permit-pty"]))]}) == 3
    )


@pytest.mark.parametrize(("ends", "seconds"), [(True, 300.0), (False, 3600.0)])
async def test_connections_end_with_their_certificates_when_asked_to(trusting, ends, seconds):
    async with pool_of(trusting, authority(validity=300.0, ends_connections=ends)) as pool:
        began = time.monotonic()
        assert await log_in(pool) == "ann"
        first = pool.all_connections()[0]
        assert began + seconds <= first.ends <= first.opened + seconds
        first.ends = time.monotonic()
        assert await log_in(pool) == "ann"
        assert pool.counters.opened == 2


async def test_a_key_that_does_not_sign_is_left_out(trusting, tmp_path):
    gone = AgentSigner(str(tmp_path / "no-agent"), OTHER.export_public_key().decode())
    rules = CertificateRules()
    async with pool_of(trusting, AuthorityCredentials([gone, signer()], rules, "one")) as pool:
        assert await log_in(pool) == "ann"
    async with pool_of(trusting, AuthorityCredentials([gone], rules, "one")) as pool:
        with pytest.raises(CredentialsUnavailable, match="ssh-agent"):
            await log_in(pool)


async def test_without_its_module_a_token_is_a_clear_error(tmp_path):
    token = TokenSigner(str(tmp_path / "none.so"), "token", "label", None)
    with pytest.raises(CredentialsUnavailable, match="token can't be opened"):
        await token.sign(b"data")


async def test_principals_hold_nothing_that_the_issuer_chooses():
    with pytest.raises(KeyError):
        await authority(principals=["{subject}"]).obtain(ANN, Deadline.after(20), 60)  # settings refuse it before


def test_an_unreadable_key_is_refused_at_once() -> None:
    with pytest.raises(CredentialsFailed):
        KeySigner("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
