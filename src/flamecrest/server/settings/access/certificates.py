"""Settings of the gateway's own SSH certificate authority."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, ClassVar, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import (
    FLAMECREST_ONLY,
    FilledSecret,
    PublicKey,
    Seconds,
    SecondsOrNone,
    Secret,
    Section,
    Word,
    Words,
    as_tuple,
    none_if_blank,
)
from flamecrest.server.settings.use import ReadBy

END_CONNECTIONS = (
    "Whether a connection gets no new work from the end of its login's certificate on. Not set: it is used until "
    "`ssh.max_age`, as SSH servers look at certificates at the login only."
)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_EXTENSION = re.compile(r"[A-Za-z0-9@._-]{1,64}", re.ASCII)


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise InvalidSetting("is neither an IP address nor a network", "192.0.2.7 or 192.0.2.0/28") from None


def _extension(value: str) -> str:
    if not _EXTENSION.fullmatch(value):
        raise InvalidSetting("is not the name of an extension", "permit-port-forwarding")
    return value


def _template(value: str, names: tuple[str, ...]) -> str:
    rest = _PLACEHOLDER.sub("", value)
    if "{" in rest or "}" in rest or not {*_PLACEHOLDER.findall(value)} <= {*names}:
        possible = ", ".join(f"{{{name}}}" for name in names)
        raise InvalidSetting("has a placeholder that is unknown", f"possible: {possible}")
    return value


def _principal(value: str) -> str:
    return _template(value, ("user", "cluster"))


def _key_id(value: str) -> str:
    return _template(value, ("user", "cluster", "subject", "issuer", "client"))


class SigningKeyFileSettings(Section):
    """A signing key in a file."""

    TAG: ClassVar[str | None] = "type"
    USE = ReadBy("server.wiring")

    type: Annotated[Literal["file"], ReadBy("server.settings")] = Field(
        description="Where the key is.", examples=["file"], json_schema_extra=FLAMECREST_ONLY
    )
    private_key: FilledSecret = Field(
        description="The private key in OpenSSH or PEM format.",
        examples=["secret_file:/etc/flamecrest/ssh_ca"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    passphrase: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="The passphrase of the private key, if it has one.",
        json_schema_extra=FLAMECREST_ONLY,
    )

    @model_validator(mode="after")
    def _is_readable(self) -> SigningKeyFileSettings:
        text = f"{self.private_key.get_secret_value()}\n".encode()
        secret = self.passphrase.get_secret_value().encode() if self.passphrase is not None else None
        read = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in text else load_pem_private_key
        try:
            read(text, secret)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # their texts may hold a part of the file
            hint = "a key as `flamecrest ca key` makes it, and its passphrase if it has one"
            raise InvalidSetting("private_key can't be read with this passphrase", hint) from None
        return self


class SigningKeyAgentSettings(Section):
    """A signing key in an ssh-agent."""

    TAG: ClassVar[str | None] = "type"
    USE = ReadBy("server.wiring")

    type: Annotated[Literal["agent"], ReadBy("server.settings")] = Field(
        description="Where the key is.", examples=["agent"], json_schema_extra=FLAMECREST_ONLY
    )
    socket: Word = Field(
        description="The agent's Unix socket (`ssh-agent -a SOCKET`).",
        examples=["/run/flamecrest/ssh-agent.sock"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    public_key: PublicKey = Field(
        description="The public key: which of the agent's keys signs.",
        examples=["ssh-ed25519 AAAAC3…"],
        json_schema_extra=FLAMECREST_ONLY,
    )


class SigningKeyTokenSettings(Section):
    """A signing key in a PKCS#11 token (RSA or ECDSA). It needs the extra `pkcs11`: `flamecrest[server,pkcs11]`."""

    TAG: ClassVar[str | None] = "type"
    USE = ReadBy("server.wiring")

    type: Annotated[Literal["pkcs11"], ReadBy("server.settings")] = Field(
        description="Where the key is.", examples=["pkcs11"], json_schema_extra=FLAMECREST_ONLY
    )
    module: Word = Field(
        description="The PKCS#11 module, a shared library.",
        examples=["/usr/lib/softhsm/libsofthsm2.so"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    token: Word = Field(description="The token's label.", examples=["flamecrest"], json_schema_extra=FLAMECREST_ONLY)
    label: Word = Field(description="The key's label.", examples=["ssh-ca"], json_schema_extra=FLAMECREST_ONLY)
    pin: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The PIN of the token's user.", json_schema_extra=FLAMECREST_ONLY
    )


SigningKey = Annotated[
    SigningKeyFileSettings | SigningKeyAgentSettings | SigningKeyTokenSettings, Field(discriminator="type")
]


class CertificatesSettings(Section):
    """Certificates that the gateway signs itself: a new key pair and a short-lived certificate for each login."""

    TAG: ClassVar[str | None] = "type"
    USE = ReadBy("server.wiring")

    type: Annotated[Literal["SSHCertificates"], ReadBy("server.settings")] = Field(
        description="The source of keys.", examples=["SSHCertificates"], json_schema_extra=FLAMECREST_ONLY
    )
    signing_keys: tuple[SigningKey, ...] = Field(
        description="The keys of the certificate authority. One; or two while one replaces the other: then each login "
        "offers a certificate of each, in this order.",
        examples=[[{"type": "file", "private_key": "secret_file:/etc/flamecrest/ssh_ca"}]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    validity: Seconds = Field(
        default=300,
        description="How long a certificate is valid. It is needed at the login only.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    backdate: SecondsOrNone = Field(
        default=60,
        description="How long before its issue the validity of a certificate begins: a cluster's clock may be behind.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    principals: Annotated[tuple[Annotated[Word, AfterValidator(_principal)], ...], BeforeValidator(as_tuple)] = Field(
        default=("{user}",),
        description="The principals of a certificate; `{user}` is the user's account, `{cluster}` the cluster's name. "
        "OpenSSH accepts a certificate with the account's name, or a name in its `AuthorizedPrincipalsFile`.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    key_id: Annotated[Word, AfterValidator(_key_id)] = Field(
        default="flamecrest {user} {client}",
        description="The key id of a certificate, which the SSH server writes to its log; `{user}`, `{cluster}`, and "
        "of the access token `{subject}`, `{issuer}` and `{client}`.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    source_address: Annotated[tuple[Annotated[Word, AfterValidator(_network)], ...], BeforeValidator(as_tuple)] = Field(
        default=(),
        description="The addresses and networks from which a certificate may be used: those of the gateway (and of the "
        "jump host). Empty: any.",
        examples=[["192.0.2.7"]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    force_command: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="The command that the SSH server runs in place of every other; it finds that one in "
        "`SSH_ORIGINAL_COMMAND`.",
        examples=["/usr/local/sbin/flamecrest-shell"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    extensions: Annotated[Words, AfterValidator(lambda names: tuple(map(_extension, names)))] | None = Field(
        default=None,
        description="The extensions of a certificate. Not set: none, or `permit-port-forwarding` behind a jump host, "
        "which is all that the gateway needs.",
        examples=[["permit-port-forwarding"]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    end_connections: bool = Field(default=False, description=END_CONNECTIONS, json_schema_extra=FLAMECREST_ONLY)

    @model_validator(mode="after")
    def _has_keys_and_principals(self) -> CertificatesSettings:
        if not 1 <= len(self.signing_keys) <= 2:
            raise InvalidSetting("signing_keys must have one key, or two", "flamecrest ca key /etc/flamecrest/ssh_ca")
        if not self.principals:
            raise InvalidSetting("principals is empty", 'principals: ["{user}"]')
        if "{user}" not in "".join(self.principals):
            raise InvalidSetting("principals do not depend on the user", "one of them must contain {user}")
        return self
