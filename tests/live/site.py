"""The site that the live tests and the benchmark run against: its address, its users, how a gateway reaches it.

The defaults are those of tests/live/centre; the variables FLAMECREST_LIVE_* name another site. It starts nothing.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from flamecrest.sandbox.issuer import Issuer

CENTRE_USERS = ("fireuser", "firesrv", *(f"user{number:02d}" for number in range(1, 21)))


@dataclass(frozen=True, slots=True)
class Site:
    """One cluster with the keys of its users in files `keys/USER`, and the directories that hold their homes."""

    system: str
    host: str
    port: int
    keys: Path
    known_hosts: Path
    users: Sequence[str]
    service_user: str
    root: str  # the users' file system
    account: str  # the account that jobs are charged to
    scheduler_version: str = "22.05.8"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Site:
        """The centre that `tests/live/centre/up.sh` makes with the same variables, or the site that they describe."""

        def value(name: str, default: object) -> str:
            return environ.get(f"FLAMECREST_LIVE_{name}") or str(default)

        folder = Path(environ.get("CLUSTER_DIR") or Path(tempfile.gettempdir()) / "flamecrest-centre")
        users = value("USERS", ",".join(CENTRE_USERS)).split(",")
        return cls(
            system=value("SYSTEM", "cluster-slurm-ssh"),
            host=value("HOST", "127.0.0.1"),
            port=int(value("PORT", environ.get("SSH_PORT") or 2222)),
            keys=Path(value("KEYS", folder / "keys")),
            known_hosts=Path(value("KNOWN_HOSTS", folder / "etc/ssh/known_hosts")),
            users=users,
            service_user=value("SERVICE_USER", users[1] if len(users) > 1 else users[0]),
            root=value("ROOT", "/home"),
            account=value("ACCOUNT", "test"),
        )

    @property
    def user(self) -> str:
        """The default user of the tests."""
        return self.users[0]

    def key(self, user: str) -> Path:
        """The user's private key."""
        return self.keys / user

    def home(self, user: str) -> str:
        """The user's directory."""
        return f"{self.root.rstrip('/')}/{user}"

    def why_not(self) -> str | None:
        """Why the site cannot be used now; None if it responds."""
        try:
            with socket.create_connection((self.host, self.port), timeout=5) as connection:
                connection.settimeout(5)
                banner = connection.recv(4)
        except OSError as error:
            return f"the centre is not up ({self.host}:{self.port}: {error}): see scripts/test-live"
        if banner != b"SSH-":
            return f"{self.host}:{self.port} is no SSH server"
        unreadable = [path for path in (self.known_hosts, self.key(self.user)) if not os.access(path, os.R_OK)]
        return f"{unreadable[0]} cannot be read: run as root, see scripts/test-live" if unreadable else None

    def clients(self) -> dict[str, tuple[str, str]]:
        """An OAuth2 client for every user, as sandbox.issuer.Issuer takes them: its id, its secret, the user."""
        return {f"{user}-client": (f"{user}-secret", user) for user in self.users}

    def settings(self, issuer: Issuer, secret: Path, *, probing: bool = True) -> dict[str, Any]:
        """The configuration of a gateway on this site, in FirecREST's own keys where it has them.

        `secret` is the file that the secret of the probes' account is written to.
        """
        account = f"{self.service_user}-client"
        secret.write_text(self.clients()[account][0], encoding="utf-8")
        secret.chmod(0o600)
        probe = {"timeout": 10}
        probes = {"interval_check": 60, "services": {"ssh": probe, "scheduler": probe, "filesystem": probe}}
        cluster = {
            "name": self.system,
            "ssh": {
                "host": self.host,
                "port": self.port,
                "max_clients": 200,
                "timeout": {"connection": 10, "login": 10, "command_execution": 30, "idle_timeout": 120},
                "host_keys": {"known_hosts": str(self.known_hosts)},
            },
            "scheduler": {"type": "slurm", "version": self.scheduler_version, "timeout": 30},
            "service_account": {"client_id": account, "secret": f"secret_file:{secret}"},
            "probing": probes if probing else {},
            "file_systems": [{"path": self.root, "data_type": "users", "default_work_dir": True}],
            "data_operation": {"datatransfer_jobs_directives": ["#SBATCH --account={account}"]},
        }
        return {
            "auth": {
                "authentication": {
                    "token_url": issuer.token_url,
                    "public_certs": [issuer.jwks_url],
                    "username_claim": "preferred_username",
                    "issuer": issuer.url,
                    "audience": issuer.audience,
                }
            },
            "ssh_credentials": {
                "type": "SSHStaticKeys",
                "keys": {user: {"private_key": f"secret_file:{self.key(user)}"} for user in self.users},
            },
            "clusters": [cluster],
        }


def write_settings(settings: Mapping[str, Any], path: Path) -> Path:
    """Write a configuration file."""
    path.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")
    return path
