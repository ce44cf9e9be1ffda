"""Runs single checks: what a service has answered, and what to do where it has not."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from flamecrest.server.errors import Denied, GatewayError, Timeout, Upstream
from flamecrest.server.settings import CertificatesSettings
from flamecrest.server.ssh.errors import AddressPenalised, ConnectionDropped, CredentialsFailed, LoginRefused
from flamecrest.server.ssh.host_keys import KNOWN_HOSTS_LINE

if TYPE_CHECKING:
    from flamecrest.server.settings import ClusterSettings, Settings

Advice = Mapping[type[Exception], str]

LOGIN: Advice = {
    AddressPenalised: "list the gateway's address in PerSourcePenaltyExemptList (sshd_config of the login node), "
    "and correct the keys whose logins fail (see the log)",
    ConnectionDropped: "increase MaxStartups, and list the gateway's address in PerSourcePenaltyExemptList "
    "(sshd_config of the login node); check filters of addresses",
    LoginRefused: "correct the user's key; sshd's log says why (`journalctl -t sshd`), for example that the account is "
    "locked. OpenSSH 9.8 and newer drop all connections of an address whose logins fail: "
    "list the gateway's address in PerSourcePenaltyExemptList (sshd_config of the login node)",
    Timeout: "check the firewall and the jump host; if the host is only slow, increase ssh.timeout",
    CredentialsFailed: "correct the user's key in ssh_credentials, and its passphrase, if it has one",
    Denied: "add a key of this user to ssh_credentials, or give another user with --user",
    Upstream: "check ssh.host, ssh.port and the firewall; host key: ssh.host_keys; permission denied: the user's key",
}
_CERTIFICATE_LOGIN: Advice = {
    **LOGIN,
    LoginRefused: "sshd's log of the login node says why (`journalctl -t sshd`). TrustedUserCAKeys must name the CA's "
    "public key; the principal must be the account; ssh_credentials.source_address must be the gateway's address as "
    "the login node sees it; the account must exist and be neither locked nor expired; the clocks must agree",
}
_CHANGED_HOST_KEY = (
    "compare the key with the one that the centre publishes; if they are equal, replace the old line in the "
    "known_hosts of the account that runs the gateway, or in ssh.host_keys"
)
_HOST_KEY = (
    "compare the key with the one that the centre publishes; then add the line to the known_hosts of the account that "
    "runs the gateway, or set ssh.host_keys"
)
HTTP: Advice = {
    httpx.TimeoutException: "check the firewall and the proxy",
    httpx.ConnectError: "check host and port of the URL, and the certificate",
    httpx.UnsupportedProtocol: "the URL must begin with https:// or http://",
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check: message of success or failure, and advice on a failure."""

    subject: str
    ok: bool
    seconds: float
    message: str = ""
    advice: str = ""


class UnusableResponse(Exception):
    """A service responds, but not as required."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


def login_advice(settings: Settings, cluster: ClusterSettings) -> Advice:
    """What to do about logins that fail, by the kind of credentials."""
    signed = isinstance(settings.credentials(cluster), CertificatesSettings)
    return _CERTIFICATE_LOGIN if signed else LOGIN


async def run_check(subject: str, action: Awaitable[str], advice: Advice) -> CheckResult:
    """Run one check."""
    begin = time.monotonic()
    try:
        message = await action
    except UnusableResponse as error:
        return CheckResult(subject, False, time.monotonic() - begin, error.message, error.advice)
    except (GatewayError, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return CheckResult(subject, False, time.monotonic() - begin, message_of(error), _advice_on(error, advice))
    return CheckResult(subject, True, time.monotonic() - begin, message)


def _advice_on(error: Exception, advice: Advice) -> str:
    if KNOWN_HOSTS_LINE in str(error):
        return _CHANGED_HOST_KEY if "has changed" in str(error) else _HOST_KEY
    return next((text for kind, text in advice.items() if isinstance(error, kind)), "")


def message_of(error: Exception) -> str:
    """What an error says; for those of the gateway with what else goes to the log."""
    if isinstance(error, GatewayError):  # a line to copy stands alone at the end
        named = error.detail and KNOWN_HOSTS_LINE not in error.public
        return f"{error.public} ({error.detail})" if named else error.public
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) or type(error).__name__


async def reach(client: httpx.AsyncClient, url: str) -> str:
    """Check that the server responds. Any status below 500 is a success: these URLs require POST or a signature."""
    response = await client.get(url)
    if response.status_code >= 500:
        raise UnusableResponse(f"status {response.status_code}", "see the log of that server")
    return f"status {response.status_code}"
