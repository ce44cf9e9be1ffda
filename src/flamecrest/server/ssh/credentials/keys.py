"""New keys for the certificate authority, and the lines with which an SSH server trusts it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import asyncssh

from .certificates import line

Kind = Literal["ed25519", "ecdsa", "rsa"]
TRUSTED = "/etc/ssh/flamecrest_ca.pub"
REVOKED = "/etc/ssh/flamecrest_revoked"
PRINCIPALS = "/etc/ssh/flamecrest_principals/%u"

_OPTIONS: dict[Kind, tuple[str, dict[str, int]]] = {
    "ed25519": ("ssh-ed25519", {}),
    "ecdsa": ("ecdsa-sha2-nistp256", {}),
    "rsa": ("ssh-rsa", {"key_size": 4096}),
}


def make_key(path: Path, kind: Kind, passphrase: str | None, comment: str) -> str:
    """Write a new private key, readable by its owner only, and beside it the public key, whose line is returned.

    Raises FileExistsError, and OSError where the files can't be written. No file is replaced.
    """
    algorithm, options = _OPTIONS[kind]
    key = asyncssh.generate_private_key(algorithm, comment, **options)
    public = path.with_name(f"{path.name}.pub")
    if public.exists():
        raise FileExistsError(17, "File exists", str(public))
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(key.export_private_key(passphrase=passphrase))
    text = line(key.public_data, comment)
    public.write_text(f"{text}\n")
    return text


def sshd_lines(public_keys: Sequence[bytes], addresses: Sequence[str], *, by_account: bool) -> str:
    """What the login nodes need: the file with the public keys, and the lines of sshd_config.

    `addresses` are those from which the gateway connects; `by_account`: the principals are the accounts' names.
    """
    keys = "\n".join(line(key, "flamecrest") for key in public_keys)
    mapped = "" if by_account else f"    AuthorizedPrincipalsFile {PRINCIPALS}\n"
    where = ",".join(addresses) or "192.0.2.7"
    hint = "" if addresses else "  # the gateway's address"
    return (
        f"# {TRUSTED}\n{keys}\n\n"
        f"# {REVOKED} must exist, or the server refuses all keys: touch {REVOKED}\n\n"
        f"# /etc/ssh/sshd_config, at the end\n"
        f"Match Address {where}{hint}\n    TrustedUserCAKeys {TRUSTED}\n    RevokedKeys {REVOKED}\n{mapped}"
    )
