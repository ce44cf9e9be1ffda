"""The site that the live tests and the benchmark run against: its address, its users, how a gateway reaches it.

The defaults are those of tests/live/centre; the variables FLAMECREST_LIVE_* name another site. It starts nothing.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from flamecrest.sandbox.issuer import Issuer

# The centres in chroots (`SUITE=… tests/live/centre/up.sh`): the version of their Slurm, and the ports of sshd and
# slurmrestd, as in tests/live/centre/env.sh.
SUITES = {"trixie": ("24.11.5", 2524, 6924), "sid": ("26.05.5", 2526, 6926)}
# Each worker of pytest-xdist has a default user of its own, so that no test meets the jobs and the files of another
# worker's, and a second one for slurmrestd, which has no filter for users: its tests list few jobs. No test means these
# users by name, except the first.
WORKERS = (
    ("fireuser", "user09"),
    ("user13", "user10"),
    ("user14", "user11"),
    ("user15", "user12"),
    ("user16", "user08"),
)
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
    api_url: str = "http://127.0.0.1:6820"  # slurmrestd
    jwt_key: Path = Path("/etc/slurm/jwt_hs256.key")
    connection_mode: str = "ssh"
    local: Mapping[str, Any] | None = None  # the settings of the local scheduler, which is used instead of Slurm
    shared_life: float | None = None  # seconds for which requests use an answer of the scheduler; None: the default
    idle_timeout: float = 120  # seconds after which the gateway closes an unused connection

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Site:
        """The centre that `tests/live/centre/up.sh` makes with the same variables, or the site that they describe."""

        def value(name: str, default: object) -> str:
            return environ.get(f"FLAMECREST_LIVE_{name}") or str(default)

        folder = Path(environ.get("CLUSTER_DIR") or Path(tempfile.gettempdir()) / "flamecrest-centre")
        users = value("USERS", ",".join(CENTRE_USERS)).split(",")
        site = cls(
            system=value("SYSTEM", "cluster-slurm-ssh"),
            host=value("HOST", "127.0.0.1"),
            port=int(value("PORT", environ.get("SSH_PORT") or 2222)),
            keys=Path(value("KEYS", folder / "keys")),
            known_hosts=Path(value("KNOWN_HOSTS", folder / "etc/ssh/known_hosts")),
            users=users,
            service_user=value("SERVICE_USER", users[1] if len(users) > 1 else users[0]),
            root=value("ROOT", "/home"),
            account=value("ACCOUNT", "test"),
            api_url=value("API_URL", f"http://127.0.0.1:{environ.get('RESTD_PORT') or 6820}"),
            jwt_key=Path(value("JWT_KEY", folder / "etc/slurm/jwt_hs256.key")),
        )
        return site.of_worker(environ.get("PYTEST_XDIST_WORKER", "gw0"))

    def of_worker(self, worker: str, second: int = 0) -> Site:
        """The site with the first or second user of that worker (`gw0`, …) as the default, if it has that user."""
        user, users = WORKERS[int(worker[2:]) % len(WORKERS)][second], list(self.users)
        if user in users:
            at = users.index(user)
            users[at], users[0] = users[0], user
        return replace(self, users=tuple(users))

    def second(self, environ: Mapping[str, str] = os.environ) -> Site:
        """The site with the second user of this worker as the default."""
        return self.of_worker(environ.get("PYTEST_XDIST_WORKER", "gw0"), 1)

    @classmethod
    def of_suite(cls, suite: str, environ: Mapping[str, str] = os.environ) -> Site:
        """The centre that `SUITE=… tests/live/centre/up.sh` makes: another version of Slurm beside the first one."""
        version, ssh_port, rest_port = SUITES[suite]
        folder = Path(environ.get("CHROOTS") or "/var/cache/flamecrest-centres") / suite / "centre"
        site = cls(
            system=f"cluster-{suite}",
            host="127.0.0.1",
            port=ssh_port,
            keys=folder / "keys",
            known_hosts=folder / "etc/ssh/known_hosts",
            users=CENTRE_USERS,
            service_user=CENTRE_USERS[1],
            root="/home",
            account="test",
            scheduler_version=version,
            api_url=f"http://127.0.0.1:{rest_port}",
            jwt_key=folder / "etc/slurm/jwt_hs256.key",
        )
        return site.of_worker(environ.get("PYTEST_XDIST_WORKER", "gw0"))

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
                "timeout": {"connection": 10, "login": 10, "command_execution": 30, "idle_timeout": self.idle_timeout},
                "host_keys": {"known_hosts": str(self.known_hosts)},
            },
            "scheduler": self._scheduler(),
            "service_account": {"client_id": account, "secret": f"secret_file:{secret}"},
            "probing": probes if probing else {},
            "file_systems": [{"path": self.root, "data_type": "users", "default_work_dir": True}],
            "data_operation": {
                "datatransfer_jobs_directives": ["#SBATCH --account={account}"] if self.local is None else []
            },
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

    def _scheduler(self) -> dict[str, Any]:
        if self.local is not None:
            return {"type": "local", "version": "1", "timeout": 30, "local": dict(self.local)}
        chosen: dict[str, Any] = {"type": "slurm", "version": self.scheduler_version, "timeout": 30}
        if self.connection_mode != "ssh":
            chosen |= {"connection_mode": self.connection_mode, "api_url": self.api_url, "jwt_key": str(self.jwt_key)}
        if self.shared_life is not None:
            chosen["shared_reads"] = {"life": self.shared_life}
        return chosen


def write_settings(settings: Mapping[str, Any], path: Path) -> Path:
    """Write a configuration file."""
    path.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")
    return path
