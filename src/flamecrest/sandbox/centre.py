"""A computing centre in one directory of this machine: token issuer, SSH server, toy Slurm and users.

It starts the parts and writes the configuration of a gateway for them.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any, Self

import asyncssh
import yaml

from . import processes, userland
from .issuer import Issuer, SigningKey
from .pbs.toy import ToyPbs
from .slurm import cluster
from .slurm.toy import ToySlurm
from .ssh.server import SshServer
from .store import ObjectStore, object_store
from .users import UnixUsers

USERS = ("fireuser", "firesrv", "user01", "user02", "user03")
SERVICE = "firesrv"  # the account of the gateway's probes
VERSIONS = {"slurm": cluster.VERSION, "pbs": "23.06.06", "local": "1"}  # the first two are those that the toys print
LOCAL = {"cpus": 16, "kill_wait": 2}  # of the local scheduler, on a machine that may have fewer CPUs
SYSTEM = "cluster-slurm-ssh"
LOCAL_SYSTEM = "cluster-local"
TOKEN_LIFE = 12 * 3600.0  # seconds
PART_SIZE = 5 * 1024**2  # bytes of a part in the object store, the least that S3 allows
TIMEOUTS = ("connection", "login", "command_execution", "idle_timeout", "keep_alive")
SECONDS = 60  # of each: all is on this machine, and what takes long is only slow
DIRECTIVES = {  # of transfer jobs, by scheduler
    "slurm": ("#SBATCH --nodes=1", "#SBATCH --time=0-00:15:00"),
    "pbs": ("#PBS -l select=1:ncpus=1", "#PBS -l walltime=00:15:00"),
    "local": (),
}


class Centre:
    """`async with Centre() as centre:` starts all parts, and ends all their processes at the end.

    Without `root` the centre uses a new temporary directory and removes it at the end. With `root` it uses the files
    that are there, and first ends the processes that an earlier centre left behind. `settings` are those of the toy
    Slurm (`slurm.store.SETTINGS`); `clusters` are further clusters, which `sbatch --clusters` chooses.
    With `scheduler="pbs"` the gateway uses the toy PBS, with `scheduler="local"` the local scheduler, no toy. With
    `with_local` it has a second cluster with the local scheduler, for the same users. With `with_store` all clusters
    use an object store, to which jobs of a scheduler move data; the local scheduler's cluster has the gateway move it.
    """

    def __init__(
        self,
        root: Path | None = None,
        *,
        users: Sequence[str] = USERS,
        accounts: Mapping[str, Sequence[str]] | None = None,
        max_sessions: int = 10,
        settings: Mapping[str, float] | None = None,
        clusters: Sequence[str] = (),
        scheduler: str = "slurm",
        with_local: bool = False,
        with_store: bool = False,
    ) -> None:
        self.system = SYSTEM  # the cluster's name in the gateway
        self.systems = {SYSTEM: scheduler, **({LOCAL_SYSTEM: "local"} if with_local else {})}  # with their schedulers
        self._temporary = root is None
        self.root = (Path(tempfile.mkdtemp(prefix="flamecrest-")) if root is None else root).resolve()
        self.users = UnixUsers(self.root, users)
        self.slurm = ToySlurm(self.users, accounts=accounts)
        self.pbs = ToyPbs(self.root)
        self._settings = dict(settings or {})
        self._clusters = clusters
        self._max_sessions = max_sessions
        self._with_store = with_store
        self.store: ObjectStore | None = None
        self.issuer: Issuer
        self.ssh: SshServer
        self.authority: asyncssh.SSHKey  # signs user certificates that the SSH server accepts

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._clean_up)
            self._prepare()
            issuer = Issuer(self._clients(), ttl=TOKEN_LIFE, keys=[_signing_key()])
            self.issuer = await stack.enter_async_context(issuer)
            if self._with_store:
                self.store = await stack.enter_async_context(object_store())
            stack.push_async_callback(self.ssh.stop)
            await self.ssh.start()
            self.known_hosts.write_text(f"[127.0.0.1]:{self.ssh.port} {_public(self.ssh.host_key)}\n")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _clean_up(self) -> None:
        await asyncio.to_thread(processes.end_all, self.root, self.slurm.sessions())
        if self._temporary:
            await asyncio.to_thread(shutil.rmtree, self.root, ignore_errors=True)

    # Paths and credentials

    @property
    def known_hosts(self) -> Path:
        """A file in OpenSSH's format with the SSH server's host key."""
        return self.root / "keys" / "known_hosts"

    def home(self, user: str) -> Path:
        return self.users[user].home

    def scratch(self, user: str) -> Path:
        return self.root / "scratch" / user

    def key_file(self, user: str) -> Path:
        """The private key that the SSH server accepts for a user."""
        return self.root / "keys" / "users" / user

    def client_secret(self, user: str) -> str:
        """The secret of the issuer's client that acts for a user. The client's id is the user's name."""
        return self._secret_file(user).read_text()

    def token(self, user: str, **claims: Any) -> str:
        """A new access token for a user."""
        return self.issuer.mint(user, **claims)

    def certificate(
        self, user: str, key: asyncssh.SSHKey, *, principals: Sequence[str] | None = None, valid: float = 300.0
    ) -> asyncssh.SSHCertificate:
        """Sign a user certificate for a public key. It is valid from a minute ago until `valid` seconds from now."""
        now = time.time()
        return self.authority.generate_user_certificate(
            key,
            f"sandbox:{user}",
            principals=[user] if principals is None else list(principals),
            valid_after=int(now - 60),
            valid_before=int(now + valid),
        )

    # The gateway's configuration

    def config(self, *, probing: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A configuration in FirecREST v2's format for a gateway in front of this centre. Secrets are in files."""
        return {
            "auth": {
                "authentication": {
                    "scopes": {},
                    "tokenUrl": self.issuer.token_url,
                    "publicCerts": [self.issuer.jwks_url],
                    "issuer": self.issuer.url,
                    "audience": self.issuer.audience,
                }
            },
            "ssh_credentials": {
                "type": "SSHStaticKeys",
                "keys": {one.name: {"private_key": f"secret_file:{self.key_file(one.name)}"} for one in self.users},
            },
            "clusters": [self._cluster(name, scheduler, probing) for name, scheduler in self.systems.items()],
        }

    def write_config(self, path: Path | None = None, **options: Any) -> Path:
        """Write config(**options) as YAML to a file, by default `<root>/config.yaml`, and return its path."""
        path = self.root / "config.yaml" if path is None else path
        path.write_text(yaml.safe_dump(self.config(**options), sort_keys=False))
        return path

    def _cluster(self, name: str, scheduler: str, probing: Mapping[str, Any] | None) -> dict[str, Any]:
        service = {"client_id": SERVICE, "secret": f"secret_file:{self._secret_file(SERVICE)}"}
        settings: dict[str, Any] = {
            "name": name,
            "ssh": {
                "host": "127.0.0.1",
                "port": self.ssh.port,
                "max_clients": 100,
                "timeout": dict.fromkeys(TIMEOUTS, SECONDS),
                "host_keys": {"known_hosts": [str(self.known_hosts)]},
            },
            "scheduler": {"type": scheduler, "version": VERSIONS[scheduler], "timeout": SECONDS},
            "file_systems": [
                {"path": str(self.root / "home"), "data_type": "users", "default_work_dir": True},
                {"path": str(self.root / "scratch"), "data_type": "scratch", "default_work_dir": False},
            ],
            "data_operation": {"datatransfer_jobs_directives": list(DIRECTIVES[scheduler])},
        }
        if scheduler == "local":
            settings["scheduler"]["local"] = dict(LOCAL)
        if self.store is not None:
            mover = "gateway" if scheduler == "local" else "job"
            transfer = self.store.settings(mover=mover, multipart={"max_part_size": PART_SIZE})
            settings["data_operation"]["data_transfer"] = transfer
        if probing is not None:
            settings["probing"] = dict(probing)
            if self.users.get(SERVICE) is not None:  # probes alone need it
                settings["service_account"] = service
        return settings

    # Setting up

    def _prepare(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        processes.end_all(self.root, self.slurm.sessions())
        self.users.make_homes()
        keys = self.root / "keys"
        for folder in (keys, keys / "users", keys / "clients"):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.authority = _key(keys / "user_ca")
        self.slurm.start(**self._settings)
        if "pbs" in self.systems.values():
            self.pbs.start()
        for name in self._clusters:
            self.slurm.add_cluster(name)
        for one in self.users:
            _authorize(one.home, _key(self.key_file(one.name)))
        userland.install(self.users, self.root / "bin")
        self.ssh = SshServer(
            self.users,
            _key(keys / "host"),
            keys={one.name: [_key(self.key_file(one.name))] for one in self.users},
            authorities=[self.authority],
            bin_dirs=[self.slurm.bin_dir, self.pbs.bin_dir, self.root / "bin"],
            max_sessions=self._max_sessions,
        )

    def _secret_file(self, user: str) -> Path:
        return self.root / "keys" / "clients" / user

    def _clients(self) -> dict[str, tuple[str, str]]:
        clients = {}
        for one in self.users:
            file = self._secret_file(one.name)
            if not file.exists():
                file.touch(mode=0o600)
                file.write_text(secrets.token_urlsafe(24))
            clients[one.name] = (file.read_text(), one.name)
        return clients


@cache
def _signing_key() -> SigningKey:
    """The key of the issuers of all centres in this process. To generate an RSA key takes a tenth of a second."""
    return SigningKey.generate()


def _key(path: Path) -> asyncssh.SSHKey:
    """Read a private key file. Create it first if it does not exist."""
    if not path.exists():
        path.touch(mode=0o600)
        asyncssh.generate_private_key("ssh-ed25519", comment=path.name).write_private_key(path)
    return asyncssh.read_private_key(path)


def _authorize(home: Path, key: asyncssh.SSHKey) -> None:
    """Write the user's authorized_keys file. It is for completeness: the server here knows the keys."""
    folder = home / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / "authorized_keys"
    file.touch(mode=0o600)
    file.write_text(_public(key) + "\n")


def _public(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])
