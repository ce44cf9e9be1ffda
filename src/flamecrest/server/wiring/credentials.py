"""Chooses with which SSH credentials users log in to a cluster."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, assert_never

import httpx

from flamecrest.server.settings import (
    CertificatesSettings,
    Problem,
    SettingsError,
    SigningKeyAgentSettings,
    SigningKeyFileSettings,
    SourceLocation,
    SshCaSettings,
    SshServiceSettings,
    StaticKeysSettings,
)
from flamecrest.server.ssh.credentials.authority import AuthorityCredentials, CertificateRules
from flamecrest.server.ssh.credentials.issued import IssuedCredentials
from flamecrest.server.ssh.credentials.key_services import SshCa, SshService
from flamecrest.server.ssh.credentials.signers import AgentSigner, KeySigner, TokenSigner
from flamecrest.server.ssh.credentials.static import StaticCredentials, StaticKey
from flamecrest.server.ssh.errors import CredentialsFailed

if TYPE_CHECKING:
    from pydantic import SecretStr

    from flamecrest.server.settings import ClusterSettings, Settings, SigningKeyTokenSettings
    from flamecrest.server.ssh.credentials.certificates import Signer
    from flamecrest.server.ssh.credentials.port import Credentials

    Source = StaticKeysSettings | SshServiceSettings | SshCaSettings | CertificatesSettings
    SigningKey = SigningKeyFileSettings | SigningKeyAgentSettings | SigningKeyTokenSettings


class CredentialSources:
    """The credentials of all clusters. Equal settings share what is made of them, also later; `stack` closes it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._made: list[tuple[Source, Credentials]] = []
        self._signers: list[tuple[Source, tuple[Signer, ...]]] = []

    async def of(self, settings: Settings, cluster: ClusterSettings) -> Credentials:
        """The credentials for a cluster. Raises SettingsError for a signing key that can't be read."""
        source = settings.credentials(cluster)
        if isinstance(source, CertificatesSettings):
            return self._authority(source, cluster)
        made = next((made for known, made in self._made if known == source), None)
        if made is None:
            made = await self._make(source)
            self._made.append((source, made))
        return made

    async def _make(self, source: StaticKeysSettings | SshServiceSettings | SshCaSettings) -> Credentials:
        match source:
            case StaticKeysSettings():
                return static_keys(source)
            case SshServiceSettings():
                http = await self._client(source.max_connections, source.timeout)
                service = SshService(http, source.url, timeout=source.timeout, duration=source.duration)
                return await self._issued(service, end_connections=source.end_connections)
            case SshCaSettings():
                http = await self._client(source.max_connections, source.timeout)
                ca = SshCa(http, source.url, timeout=source.timeout, resource=source.resource)
                return await self._issued(ca, end_connections=source.end_connections)
            case _:
                assert_never(source)

    async def _issued(self, service: SshService | SshCa, *, end_connections: bool) -> Credentials:
        return await self._stack.enter_async_context(IssuedCredentials(service, ends_connections=end_connections))

    async def _client(self, connections: int, seconds: float) -> httpx.AsyncClient:
        """A client of its own: users' tokens go to this service, and it must not wait for others."""
        limits = httpx.Limits(max_connections=connections or None, max_keepalive_connections=min(connections or 10, 10))
        client = httpx.AsyncClient(timeout=seconds, follow_redirects=False, limits=limits)
        return await self._stack.enter_async_context(client)

    def _authority(self, source: CertificatesSettings, cluster: ClusterSettings) -> AuthorityCredentials:
        made = next((made for known, made in self._signers if known == source), None)
        if made is None:
            made = tuple(map(signer, source.signing_keys))
            self._signers.append((source, made))
        behind_jump_host = ("permit-port-forwarding",) if cluster.ssh.proxy_host is not None else ()
        rules = CertificateRules(
            validity=source.validity,
            backdate=source.backdate,
            principals=source.principals,
            key_id=source.key_id,
            source_address=source.source_address,
            force_command=source.force_command,
            extensions=behind_jump_host if source.extensions is None else source.extensions,
            ends_connections=source.end_connections,
        )
        return AuthorityCredentials(made, rules, cluster.name)


def unreadable_keys(settings: Settings) -> list[str]:
    """A warning for each configured key that can't be read: the gateway starts, but its user cannot log in."""
    sources = [("ssh_credentials", settings.ssh_credentials)]
    sources += [(f"cluster {one.name}: ssh_credentials", one.ssh_credentials) for one in settings.clusters]
    return [
        f"{where}.keys.{user}.private_key can't be read, {user} can't log in: {reason}"
        for where, source in sources
        if isinstance(source, StaticKeysSettings)
        for user, reason in static_keys(source).unreadable()
    ]


def static_keys(source: StaticKeysSettings) -> StaticCredentials:
    """The configured keys."""
    return StaticCredentials(
        {
            user: StaticKey(key.private_key.get_secret_value(), _plain(key.public_cert), _plain(key.passphrase))
            for user, key in source.keys.items()
        }
    )


def signer(key: SigningKey) -> Signer:
    """A key of the certificate authority. Raises SettingsError for one in a file that can't be read."""
    match key:
        case SigningKeyFileSettings():
            try:
                return KeySigner(key.private_key.get_secret_value(), _plain(key.passphrase))
            except CredentialsFailed as error:
                where = SourceLocation("configuration")
                message = f"{error.public}: {error.detail}"
                raise SettingsError(Problem(where, "ssh_credentials.signing_keys", message)) from None
        case SigningKeyAgentSettings():
            return AgentSigner(key.socket, key.public_key)
        case _:
            return TokenSigner(key.module, key.token, key.label, _plain(key.pin))


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None
