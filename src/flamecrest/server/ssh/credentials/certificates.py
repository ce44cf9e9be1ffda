"""OpenSSH user certificates: their encoding, and the facts that others need of one.

Source: PROTOCOL.certkeys of OpenSSH. A certificate is encoded here, and not by a library, because the libraries sign
with a private key in memory only; in an ssh-agent or a PKCS#11 token the key never leaves its place.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

USER = 1  # SSH_CERT_TYPE_USER
SUFFIX = "-cert-v01@openssh.com"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The facts of a user certificate. Times are seconds since the epoch; `authority` is a fingerprint (SHA256:…)."""

    serial: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: float
    valid_before: float
    authority: str
    options: Mapping[str, bytes] = field(default_factory=dict)  # critical ones
    extensions: Mapping[str, bytes] = field(default_factory=dict)

    def permits(self) -> list[bytes]:
        """What a server decides by, apart from time and serial number, for a fingerprint."""
        options = [(name.encode(), value) for name, value in sorted({**self.options, **self.extensions}.items())]
        names = [name.encode() for name in self.principals]
        return [self.authority.encode(), *names, *(part for option in options for part in option)]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be signed: a public key in SSH's binary encoding, and what its certificate permits."""

    public_key: bytes
    serial: int
    key_id: str
    principals: Sequence[str]
    valid_after: int  # seconds since the epoch
    valid_before: int
    force_command: str | None = None
    source_address: Sequence[str] = ()  # networks in CIDR notation
    extensions: Sequence[str] = ()


class Signer(Protocol):
    """A private key of a certificate authority, wherever it is."""

    async def public_key(self) -> bytes:
        """The public key in SSH's binary encoding. Raises CredentialsUnavailable and CredentialsFailed."""
        ...

    async def sign(self, data: bytes) -> bytes:
        """A signature in SSH's binary encoding. Raises CredentialsUnavailable and CredentialsFailed."""
        ...


def string(value: bytes) -> bytes:
    """A string in SSH's encoding (RFC 4251, section 5)."""
    return len(value).to_bytes(4) + value


def first_string(data: bytes) -> tuple[bytes, bytes]:
    """The first string in SSH's encoding, and what comes after it. Raises ValueError."""
    end = 4 + int.from_bytes(data[:4])
    if len(data) < 4 or len(data) < end:
        raise ValueError("a string in SSH's encoding is cut off")
    return data[4:end], data[end:]


async def issue(request: Request, signer: Signer) -> str:
    """The signed certificate as a line of text. Raises what the signer raises."""
    kind, key = first_string(request.public_key)
    options = {}
    if request.force_command is not None:
        options["force-command"] = string(request.force_command.encode())
    if request.source_address:
        options["source-address"] = string(",".join(request.source_address).encode())
    signed = b"".join(
        (
            string(kind + SUFFIX.encode()),
            string(secrets.token_bytes(32)),
            key,
            request.serial.to_bytes(8),
            USER.to_bytes(4),
            string(request.key_id.encode()),
            string(b"".join(string(name.encode()) for name in request.principals)),
            request.valid_after.to_bytes(8),
            request.valid_before.to_bytes(8),
            _options(options),
            _options(dict.fromkeys(request.extensions, b"")),
            string(b""),  # reserved
            string(await signer.public_key()),
        )
    )
    data = signed + string(await signer.sign(signed))
    return f"{kind.decode()}{SUFFIX} {base64.b64encode(data).decode()}"


def _options(values: Mapping[str, bytes]) -> bytes:
    """Critical options or extensions: they must be in the order of their names."""
    return string(b"".join(string(name.encode()) + string(values[name]) for name in sorted(values)))


def inspect(text: str) -> Certificate:
    """The facts of a user certificate as a line of text, whose signature must be valid.

    Raises ValueError for anything else.
    """
    try:
        found = load_ssh_public_identity(text.strip().encode())
        if not isinstance(found, SSHCertificate):
            raise ValueError("it is a key without a certificate")  # noqa: TRY004 - a text of the wrong content
        found.verify_cert_signature()
    except (UnsupportedAlgorithm, InvalidSignature) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if found.type is not SSHCertificateType.USER:
        raise ValueError("it is a certificate for a host")
    authority = found.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]
    return Certificate(
        serial=found.serial,
        key_id=found.key_id.decode(errors="replace"),
        principals=tuple(name.decode(errors="replace") for name in found.valid_principals),
        valid_after=found.valid_after,
        valid_before=found.valid_before,
        authority=sha256(base64.b64decode(authority)),
        options={name.decode(errors="replace"): value for name, value in found.critical_options.items()},
        extensions={name.decode(errors="replace"): value for name, value in found.extensions.items()},
    )


def sha256(public_key: bytes) -> str:
    """The fingerprint of a public key as OpenSSH shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(public_key).digest()).decode().rstrip("=")


def line(public_key: bytes, comment: str = "") -> str:
    """A public key as a line of text."""
    kind = first_string(public_key)[0].decode()
    return f"{kind} {base64.b64encode(public_key).decode()} {comment}".rstrip()
