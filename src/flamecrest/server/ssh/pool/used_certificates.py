"""Notes which certificate a request has used, for the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flamecrest.server.telemetry.trace import current_trace

if TYPE_CHECKING:
    from flamecrest.server.ssh.credentials.certificates import Certificate


def note_certificate(certificate: Certificate | None) -> None:
    """Note the certificate of a connection's login, if it had one, in the trace of the request that uses it."""
    if certificate is not None and (trace := current_trace.get()) is not None:
        trace.certificate_serial = certificate.serial
