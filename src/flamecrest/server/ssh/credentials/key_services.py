"""Services that issue SSH keys or certificates for a user's access token: SSHService, and DeiC's SSHCA.

What is sent and expected is what FirecREST v2 sends and expects. issued.py keeps what they issue.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncssh
import httpx
import orjson

from flamecrest.server.auth.response_bodies import read_body
from flamecrest.server.ssh.errors import CredentialsFailed, CredentialsRefused, CredentialsUnavailable

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity

MAX_ANSWER = 64 * 1024  # bytes
TOLD = 200  # characters of a refusal that go to the log
REFUSED = frozenset({401, 403})
JSON = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class ServiceDown(CredentialsUnavailable):
    """The service does not answer at all."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A private key, and its certificate as a line of text."""

    private_key: asyncssh.SSHKey = field(repr=False)
    certificate: str


class SshService:
    """SSHService of CSCS: it makes the key pair and the certificate. `duration` is the certificate's, in its words."""

    def __init__(self, http: httpx.AsyncClient, url: str, *, timeout: float, duration: str = "1min") -> None:
        self._http, self._timeout, self._duration = http, timeout, duration
        self._url = f"{url.rstrip('/')}/api/v1/ssh-keys"

    async def issue(self, identity: Identity) -> Issued:
        """A key for the user of the token. Raises as port.Credentials; ServiceDown if there is no answer at all."""
        body = {"duration": self._duration, "username": identity.username}
        headers = {**JSON, "Authorization": f"Bearer {identity.token}"}
        answer = await ask(self._http, self._url, body, identity.token, self._timeout, headers=headers)
        try:
            found: Any = orjson.loads(answer)["sshKey"]
            private, certificate = found["privateKey"], found["publicKey"]
            key = asyncssh.import_private_key(f"{private.strip()}\n")
            return Issued(key, str(certificate))
        except (asyncssh.KeyImportError, ValueError, TypeError, KeyError, AttributeError) as error:
            # the name of the class only: an error's text may hold a part of the answer
            text = "The answer of the SSH key service can't be used"
            raise CredentialsFailed(text, detail=type(error).__name__) from None


class SshCa:
    """SSHCA of DeiC: it signs a public key of ours. `resource`: for which of the user's resources, where it asks."""

    def __init__(self, http: httpx.AsyncClient, url: str, *, timeout: float, resource: str | None = None) -> None:
        self._http, self._timeout = http, timeout
        self._url = f"{url.rstrip('/')}/sign"
        self._resource = {} if resource is None else {"Resource": resource}

    async def issue(self, identity: Identity) -> Issued:
        """As SshService.issue."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        public = key.export_public_key().decode()
        body = {"PublicKey": public, "OTT": identity.token, **self._resource}
        answer = await ask(self._http, self._url, body, identity.token, self._timeout, headers=JSON)
        return Issued(key, answer.decode(errors="replace"))


async def ask(
    http: httpx.AsyncClient, url: str, body: dict[str, str], token: str, seconds: float, *, headers: dict[str, str]
) -> bytes:
    """POST a request and return the answer's body. Raises as SshService.issue."""
    if not token:
        raise CredentialsRefused("The SSH key service needs the user's access token, and there is none")
    try:
        async with (
            asyncio.timeout(seconds),
            http.stream("POST", url, content=orjson.dumps(body), headers=headers) as response,
        ):
            answer = await read_body(response, MAX_ANSWER)
    except TimeoutError:
        raise ServiceDown("The SSH key service does not answer", detail=f"no answer in {seconds:g} s") from None
    except httpx.HTTPError as error:
        raise ServiceDown("The SSH key service does not answer", detail=f"{type(error).__name__}: {error}") from None
    if answer is None:
        raise CredentialsFailed("The answer of the SSH key service can't be used", detail="it is too long")
    if response.status_code in {200, 201}:
        return answer
    said = answer.decode(errors="replace").replace(token, "…")[:TOLD]
    detail = f"status {response.status_code}: {said}"
    if response.status_code in REFUSED:
        raise CredentialsRefused("The SSH key service issues no key for this user", detail=detail)
    if response.status_code == 429 or response.status_code >= 500:
        raise CredentialsUnavailable("The SSH key service can't issue a key now", detail=detail)
    raise CredentialsFailed("The SSH key service did not issue a key", detail=detail)
