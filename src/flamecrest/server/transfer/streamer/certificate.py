"""Certificates of streamers' jobs: one for each transfer. Clients recognize it by its SHA-256, not by its names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID: Final = timedelta(days=90)  # longer than jobs wait in queues


def new_certificate() -> tuple[str, str]:
    """A key and a certificate, both as one PEM text, and the SHA-256 of the certificate in hex."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "flamecrest streamer")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    text = private + certificate.public_bytes(serialization.Encoding.PEM)
    return text.decode(), certificate.fingerprint(hashes.SHA256()).hex()
