"""Accounts of every kind of login on SSH servers of their own, and a gateway in this process in front of them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx
import pytest

import flamecrest.server.wiring.gateway  # noqa: F401 - before the guard of blocking calls is active
from flamecrest.sandbox.issuer import Issuer
from flamecrest.server.app import create_app
from flamecrest.server.settings import load
from tests.live.process import free_port, running
from tests.live.site import Site, write_settings

# Each kind: the login shell, and the ForceCommand of its login. {bin} is the folder of the tests' own programs.
KINDS: Mapping[str, tuple[str, str]] = {
    "dash": ("/bin/dash", ""),
    "bash": ("/bin/bash", ""),
    "zsh": ("/bin/zsh", ""),
    "ksh": ("/bin/ksh93", ""),
    "mksh": ("/bin/mksh", ""),
    "tcsh": ("/bin/tcsh", ""),
    "fish": ("/usr/bin/fish", ""),
    "busybox": ("{bin}/ash", ""),
    "wrapper": ("{bin}/welcome", ""),
    "forced": ("/bin/bash", "{bin}/forced"),
    "rbash": ("/bin/rbash", ""),
    "nologin": ("/usr/sbin/nologin", ""),
    "sftponly": ("/bin/bash", "internal-sftp"),
}
SHELLS = tuple(KINDS)[:10]  # those that run commands
PROGRAMS = {
    "welcome": '#!/bin/bash\necho "Welcome to the machine"\nexec /bin/bash "$@"\n',
    "forced": '#!/bin/sh\necho "session recorded" >&2\nsh -c "$SSH_ORIGINAL_COMMAND"\n',
}
PREFIX = "fclogin"
OWN = ("Port ", "PidFile ", "Subsystem ")  # settings that differ from the centre's configuration


@dataclass(frozen=True, slots=True)
class Logins:
    """The site of the accounts: by internal SFTP, and by OpenSSH's program, which the login shell starts."""

    site: Site
    by_program: Site
    folder: Path
    issuer: Issuer

    def user(self, kind: str) -> str:
        return PREFIX + kind

    def home(self, kind: str) -> Path:
        return Path(f"/home/{PREFIX}{kind}")

    def put(self, kind: str, name: str, text: str, mode: int = 0o644) -> Path:
        """A file of the account's, below its home directory."""
        path = self.home(kind) / name
        for folder in (*reversed(path.parents[: len(path.relative_to(self.home(kind)).parts) - 1]), path):
            if folder is path:
                path.write_text(text)
                path.chmod(mode)
            elif not folder.exists():
                folder.mkdir()
            shutil.chown(folder, self.user(kind), self.user(kind))
        return path

    @asynccontextmanager
    async def client(self, kind: str, *, by_program: bool = False, **ssh: object) -> AsyncIterator[httpx.AsyncClient]:
        """A client of a new gateway, with the account's token."""
        site, user = self.by_program if by_program else self.site, self.user(kind)
        settings = site.settings(self.issuer, self.folder / "secret", probing=False)
        settings["clusters"][0]["ssh"] |= ssh
        app = create_app(load(write_settings(settings, self.folder / "gateway.yaml"), {}))
        async with app.router.lifespan_context(app):
            headers = {"Authorization": f"Bearer {self.issuer.mint(user)}"}
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://gateway", headers=headers, timeout=60
            ) as client:
                yield client


@contextmanager
def accounts(site: Site, issuer: Issuer, folder: Path) -> Iterator[Logins]:
    """Make the accounts and start their SSH servers; all is removed at the end."""
    settings = site.known_hosts.parent / "sshd_config"
    if os.geteuid() != 0 or not settings.exists():
        pytest.skip("needs root, and the centre of tests/live/centre")
    with ExitStack() as stack:
        # users reach it, unlike the tests' own folders
        programs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX)))
        programs.chmod(0o755)
        for name, text in PROGRAMS.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        (programs / "ash").symlink_to("/bin/busybox")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
        users = [PREFIX + kind for kind in KINDS]
        _remove([user for user in users if Path("/home", user).exists()])  # of a run that was killed
        stack.callback(_remove, users)
        for user, (shell, _) in zip(users, KINDS.values(), strict=True):
            _make(user, shell.format(bin=programs), folder)
        added = ["sacctmgr", "-i", "-Q", "add", "user", ",".join(users), "Account=test", "DefaultAccount=test"]
        subprocess.run(added, check=True, capture_output=True)
        forced = [
            line
            for user, (_, command) in zip(users, KINDS.values(), strict=True)
            if command
            for line in (f"Match User {user}", f"ForceCommand {command.format(bin=programs)}")
        ]
        usual = [line for line in settings.read_text().splitlines() if not line.startswith(OWN)]
        sites = []
        for subsystem in ("internal-sftp", "/usr/lib/openssh/sftp-server"):
            port = free_port()
            own = [f"Port {port}", "PidFile none", f"Subsystem sftp {subsystem}", "PermitUserEnvironment yes"]
            config, known_hosts = folder / f"sshd_config_{port}", folder / f"known_hosts_{port}"
            config.write_text("\n".join([*usual, *own, *forced, ""]))
            known_hosts.write_text(site.known_hosts.read_text().replace(f"]:{site.port} ", f"]:{port} "))
            one = replace(site, port=port, known_hosts=known_hosts, keys=folder, users=users, service_user=users[0])
            sites.append(one)
            argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)]
            stack.enter_context(running(argv, folder / f"sshd_{port}.log", partial(_up, one)))
        yield Logins(sites[0], sites[1], folder, issuer)


def _make(user: str, shell: str, folder: Path) -> None:
    subprocess.run(["useradd", "-m", "-K", "HOME_MODE=0755", "-p", "*", "-s", shell, user], check=True)
    keys = Path(f"/home/{user}/.ssh")
    keys.mkdir(mode=0o700)
    shutil.copy(folder / "key.pub", keys / "authorized_keys")
    shutil.copy(folder / "key", folder / user)
    for path in (keys, keys / "authorized_keys"):
        shutil.chown(path, user, user)


def _remove(users: list[str]) -> None:
    if not users:
        return
    words = shlex.join(users)
    subprocess.run(["sacctmgr", "-i", "-Q", "delete", "user", ",".join(users)], check=False, capture_output=True)
    subprocess.run(["sh", "-c", f"for u in {words}; do userdel -f -r $u; done"], check=False, capture_output=True)


def _up(site: Site) -> bool:
    return site.why_not() is None
