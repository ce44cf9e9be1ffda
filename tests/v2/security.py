"""Everything of access at once: rules, OpenFGA, limits, audit, certificates of an authority, narrow tokens."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.live.openfga import API_TOKEN, Store
from tests.live.process import PROGRAMS

MANY: Final = {  # limits that no test reaches, so that each request is counted
    "requests_per_second": 100_000,
    "in_flight": 10_000,
    "transfers_per_hour": 1_000_000,
    "bytes_per_second": 100_000_000_000,
    "verbs": {"jobs:submit": {"requests_per_second": 100_000}, "transfer": {"in_flight": 10_000}},
}


def switch_on(settings: dict[str, Any], folder: Path, authority: Path) -> None:
    """Change a configuration in place. `authority` is a private key whose certificates the SSH server accepts.

    The rules allow everything but depend on paths, so that the links of each path of a request are resolved.
    """
    settings["auth"]["authorization"] = {
        "rules": [
            {"name": "everything", "when": "has(claims.preferred_username) && claims.preferred_username == user"},
            {
                "name": "nobody's",
                "effect": "deny",
                "paths": [f"{settings['clusters'][0]['file_systems'][0]['path']}/nobodys"],
            },
        ]
    }
    settings["limits"] = {"users": [MANY], "clients": [MANY]}
    settings["audit"] = {"file": str(folder / "audit.jsonl"), "key": _secret(folder / "audit_key"), "reads": True}
    settings["auth"]["tokens"] = {"folder": str(folder / "tokens"), "signing_key": _secret(folder / "token_key")}
    settings["ssh_credentials"] = {
        "type": "SSHCertificates",
        "signing_keys": [{"type": "file", "private_key": f"secret_file:{authority}"}],
        "source_address": ["127.0.0.1"],
    }


def ask_openfga(settings: dict[str, Any], folder: Path, store: Store) -> None:
    """Have the OpenFGA server decide, too; its store allows nothing but what a test writes."""
    (folder / "fga_token").write_text(API_TOKEN)
    (folder / "fga_token").chmod(0o600)
    settings["auth"]["authorization"] |= {
        "url": store.url,
        "timeout": 20,
        "openfga": {"store": store.id, "token": f"secret_file:{folder / 'fga_token'}"},
    }


def verify_audit(folder: Path) -> str:
    """What `flamecrest audit verify` prints about the whole log. Raises CalledProcessError if lines are missing."""
    argv: list[str | Path] = [
        PROGRAMS / "flamecrest",
        "audit",
        "verify",
        "--key-file",
        folder / "audit_key",
        folder / "audit.jsonl",
    ]
    return subprocess.run(argv, check=True, capture_output=True, encoding="utf-8").stdout


def _secret(file: Path) -> str:
    file.touch(mode=0o600)
    file.write_text(secrets.token_hex(32))
    return f"secret_file:{file}"
