"""Verification of host keys: known_hosts files, pinned keys, host certificate authorities, and the policy.

It knows neither users nor connections. Files are read again when they have changed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import asyncssh

logger = logging.getLogger(__name__)

Policy = Literal["verify", "accept-new", "off"]

DEFAULT_FILES = (
    "~/.ssh/known_hosts",
    "~/.ssh/known_hosts2",
    "/etc/ssh/ssh_known_hosts",
    "/etc/ssh/ssh_known_hosts2",
)


# The order in which OpenSSH prefers them. asyncssh begins with RSA, whose line for known_hosts is ten times as long.
_KINDS = ("ssh-ed25519", *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)), "rsa-sha2-512", "rsa-sha2-256")
ALGORITHMS = (*(f"{kind}-cert-v01@openssh.com" for kind in _KINDS), *_KINDS, "ssh-rsa")
KNOWN_HOSTS_LINE = "The line for known_hosts is:"


class HostKeyVerifier:
    """Verifies the host keys of one cluster.

    `files` are in OpenSSH's known_hosts format; by default the files that OpenSSH reads for the account that runs the
    gateway. `pinned` and `authorities` are public keys in OpenSSH's one-line format, valid for every host of the
    cluster. With `accept-new` the first key of a host that no source lists is accepted and remembered until the
    process ends; another key of that host is refused. `off` accepts every key.
    """

    def __init__(
        self,
        files: Sequence[str] | None = None,
        *,
        pinned: Sequence[str] = (),
        authorities: Sequence[str] = (),
        policy: Policy = "verify",
    ) -> None:
        alone = bool(pinned or authorities) and files is None
        self.files = [Path(name).expanduser() for name in (() if alone else files or DEFAULT_FILES)]
        self.policy = policy
        self._pinned = [asyncssh.import_public_key(key) for key in pinned]
        self._authorities = [asyncssh.import_public_key(key) for key in authorities]
        self._accepted: dict[tuple[str, int], asyncssh.SSHKey] = {}
        self._stamp: tuple[tuple[int, int] | None, ...] = ()
        self._known = asyncssh.import_known_hosts("")
        self._lines_read = 0

    def known_hosts(self) -> Any:
        """The argument of that name to asyncssh.connect: a function that looks up keys, or None to accept every key."""
        return None if self.policy == "off" else self._match

    def algorithms(self) -> Sequence[str]:
        """The kinds of key to ask a host for; none: those of its known keys, which asyncssh finds."""
        self._refresh()
        known = self._lines_read or self._pinned or self._authorities or self._accepted
        return () if known else ALGORITHMS

    def trusts(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Whether to accept a key that no source lists. asyncssh calls this after `known_hosts` found no match."""
        if self.policy != "accept-new" or any(self._match(host, addr, None if port == 22 else port)[:2]):
            return False
        remembered = self._accepted.setdefault((host, port), key)
        if remembered == key:
            logger.warning(
                "host key accepted unseen",
                extra={"fields": {"host": host, "port": port, "key": known_hosts_line(host, port, key)}},
            )
        return remembered == key

    def refusal(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> str:
        """The error text for a key that is refused, with the known_hosts line that would accept it."""
        known = self._match(host, addr, None if port == 22 else port)
        changed = bool(known[0]) or (host, port) in self._accepted
        problem = (
            "has changed (someone may be in the middle: ask the centre before you trust it)"
            if changed
            else "is unknown"
        )
        return f"The host key of {host}:{port} {problem}. {KNOWN_HOSTS_LINE} {known_hosts_line(host, port, key)}"

    def _match(self, host: str, addr: str, port: int | None) -> tuple[Sequence[Any], ...]:
        self._refresh()
        keys, authorities, *rest = self._known.match(host, addr, port)
        accepted = self._accepted.get((host, port or 22))
        more = [*self._pinned, *([accepted] if accepted is not None else [])]
        return ([*keys, *more], [*authorities, *self._authorities], *rest)

    def _refresh(self) -> None:
        stamp = tuple(_stamp(path) for path in self.files)
        if stamp == self._stamp:
            return
        known, read = asyncssh.import_known_hosts(""), 0
        for path, there in zip(self.files, stamp, strict=True):
            for text in _lines(path) if there else ():
                try:
                    known.load(text)
                    read += bool(text.strip())
                except ValueError:
                    # one malformed line must not invalidate the others
                    logger.warning("known_hosts line skipped", extra={"fields": {"file": str(path)}})
        self._known, self._stamp, self._lines_read = known, stamp, read


class HostKeyClient(asyncssh.SSHClient):
    """asyncssh's client object for one connection: it verifies the host key and reports its beginning and its end."""

    def __init__(self, host_keys: HostKeyVerifier) -> None:
        self._host_keys = host_keys
        self.on_made: Callable[[asyncssh.SSHClientConnection], object] | None = None  # before the key exchange
        self.refused: str | None = None  # the error text for a host key that was refused
        self.on_lost: Callable[[], None] | None = None

    def known_hosts(self) -> Any:
        """The argument of that name to asyncssh.connect."""
        return self._host_keys.known_hosts()

    def algorithms(self) -> Sequence[str]:
        """The argument `server_host_key_algs` to asyncssh.connect."""
        return self._host_keys.algorithms()

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        if self.on_made is not None:
            self.on_made(conn)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        if self._host_keys.trusts(host, addr, port, key):
            return True
        self.refused = self._host_keys.refusal(host, addr, port, key)
        return False

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002 - asyncssh's signature
        self.refused = (
            f"The host certificate of {host}:{port} is signed by an unknown authority. "
            f"{KNOWN_HOSTS_LINE} @cert-authority {known_hosts_line(host, port, key)}"
        )
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's signature
        if self.on_lost is not None:
            self.on_lost()


def known_hosts_line(host: str, port: int, key: asyncssh.SSHKey) -> str:
    """The known_hosts line for a key."""
    name = host if port == 22 else f"[{host}]:{port}"
    kind, data = key.export_public_key("openssh").decode("ascii").split()[:2]
    return f"{name} {kind} {data}"


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - one call, also when it is missing
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
