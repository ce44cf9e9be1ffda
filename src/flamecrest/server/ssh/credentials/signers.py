"""Where the key of the certificate authority is: in memory (from a file), in an ssh-agent, or in a PKCS#11 token."""

from __future__ import annotations

import asyncio
import base64

import asyncssh

from flamecrest.server.ssh.errors import CredentialsFailed, CredentialsUnavailable

RSA_SIGNATURE = b"rsa-sha2-512"  # OpenSSH refuses certificates that are signed with SHA-1
RSA_FLAG = 4  # the same for an agent (SSH_AGENT_RSA_SHA2_512)
SLOW = frozenset({b"ssh-rsa"})  # signatures that take milliseconds are made in a thread
SIGNING_TIMEOUT = 5.0  # seconds that an agent or a token has for a signature


class KeySigner:
    """A private key as text in any format that asyncssh reads. Raises CredentialsFailed if it can't be read."""

    def __init__(self, private_key: str, passphrase: str | None = None) -> None:
        try:
            self._key = asyncssh.import_private_key(private_key, passphrase)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise CredentialsFailed("The key of the SSH certificate authority can't be read", detail=detail) from None

    async def public_key(self) -> bytes:
        """See certificates.Signer."""
        return self._key.public_data

    async def sign(self, data: bytes) -> bytes:
        """See certificates.Signer."""
        algorithm = self._key.algorithm
        if algorithm in SLOW:
            return await asyncio.to_thread(self._key.sign, data, RSA_SIGNATURE)
        return self._key.sign(data, algorithm)


class AgentSigner:
    """A key in an ssh-agent that listens on a Unix socket; `public_key` is the line of its .pub file."""

    def __init__(self, socket: str, public_key: str) -> None:
        self._socket = socket
        self._public = base64.b64decode(public_key.split()[1])

    async def public_key(self) -> bytes:
        """See certificates.Signer."""
        return self._public

    async def sign(self, data: bytes) -> bytes:
        """See certificates.Signer."""
        try:
            async with asyncio.timeout(SIGNING_TIMEOUT), asyncssh.connect_agent(self._socket) as agent:
                return await agent.sign(self._public, data, RSA_FLAG)  # for other keys the flag has no meaning
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise CredentialsUnavailable(
                "The ssh-agent with the key of the SSH certificate authority does not sign", detail=_told(error)
            ) from None


class TokenSigner:
    """A key in a PKCS#11 token, by the labels of token and key. RSA and ECDSA, which asyncssh can use there."""

    def __init__(self, module: str, token: str, label: str, pin: str | None) -> None:
        self._module, self._token, self._label, self._pin = module, token, label, pin
        self._pair: asyncssh.SSHKeyPair | None = None
        self._lock = asyncio.Lock()  # a PKCS#11 session serves one thread at a time

    async def public_key(self) -> bytes:
        """See certificates.Signer."""
        async with self._lock:
            return (await asyncio.to_thread(self._open)).public_data

    async def sign(self, data: bytes) -> bytes:
        """See certificates.Signer."""
        async with self._lock:
            return await asyncio.to_thread(self._sign, data)

    def _sign(self, data: bytes) -> bytes:
        pair = self._open()
        try:
            return pair.sign(data)
        except Exception as error:  # noqa: BLE001 - every PKCS#11 module has errors of its own
            self._pair = None  # a session ends when the token restarts: the next signature opens a new one
            raise CredentialsUnavailable("The PKCS#11 token does not sign", detail=_told(error)) from None

    def _open(self) -> asyncssh.SSHKeyPair:
        if self._pair is None:
            try:
                found = asyncssh.load_pkcs11_keys(
                    self._module, self._pin, load_certs=False, token_label=self._token, key_label=self._label
                )
            except Exception as error:  # noqa: BLE001 - as above; without the package pkcs11 a ValueError
                raise CredentialsUnavailable("The PKCS#11 token can't be opened", detail=_told(error)) from None
            if not found:
                raise CredentialsFailed(f"The PKCS#11 token has no RSA or ECDSA key labelled {self._label}")
            self._pair = found[0]
            if self._pair.algorithm in SLOW:
                self._pair.set_sig_algorithm(RSA_SIGNATURE)
        return self._pair


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
