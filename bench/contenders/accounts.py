"""Many users: new accounts of this machine on the real centre, or a sandbox of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import asyncssh
from tests.live.accounts import remove_user
from tests.live.site import Site

from . import sites
from .servers import Servers

PREFIX = "fcbench"  # of the new accounts' names
ENDING = 30  # seconds within which cancelled jobs have ended
# Ids that no other account gets: processes are told apart by them, also from those of a centre in a chroot.
IDS = ("-K", "UID_MIN=45000", "-K", "UID_MAX=45999")


@contextmanager
def many_users(servers: Servers, count: int, *, sandbox: bool, new: bool = False) -> Iterator[Servers]:
    """The servers of a site with many users.

    On the real site these are its own users, however many they are; with `new`, accounts
    that exist for the block only, if this account may make them. Nobody else has processes or jobs of those.
    """
    with ExitStack() as stack:
        if sandbox:
            folder = servers.folder / f"users-{time.time_ns():x}"
            folder.mkdir()
            site = stack.enter_context(sites.sandbox(folder, count))
            issuer = stack.enter_context(sites.issuing(site))
            yield Servers(site, issuer, folder, servers.other_checkout)
        elif new and may_make(servers.site):
            yield replace(servers, site=stack.enter_context(new_users(servers.site, count, servers.folder)))
        else:
            yield servers


def may_make(site: Site) -> bool:
    """Whether this account can make users of the site: it is root on the machine that the site is on."""
    if os.getuid() != 0 or shutil.which("useradd") is None or shutil.which("sacctmgr") is None:
        return False
    try:
        return pwd.getpwnam(site.user).pw_dir == site.home(site.user) and site.host == "127.0.0.1"
    except KeyError:
        return False


def uids(site: Site) -> frozenset[int]:
    """The ids of the new accounts; empty for other users, who may have processes of others' work."""
    return frozenset(pwd.getpwnam(user).pw_uid for user in site.users if user.startswith(PREFIX))


@contextmanager
def new_users(site: Site, count: int, folder: Path) -> Iterator[Site]:
    """The site with these new users instead of its own. They and their jobs are removed at the end."""
    names = [f"{PREFIX}{number:02d}" for number in range(1, count + 1)]
    keys = folder / f"keys-{time.time_ns():x}"
    keys.mkdir(mode=0o700)
    key = asyncssh.generate_private_key("ssh-ed25519")
    try:
        _accounting("delete", "user", ",".join(names))  # of a run that was killed: Slurm knows their ids of then
        for name in names:
            remove_user(name)
            _make(name, key)
            (keys / name).touch(mode=0o600)
            key.write_private_key(keys / name)
        _accounting("add", "user", ",".join(names), f"Account={site.account}", f"DefaultAccount={site.account}")
        yield replace(site, users=tuple(names), service_user=names[0], keys=keys)
    finally:
        _remove(names)


def _make(name: str, key: asyncssh.SSHKey) -> None:
    subprocess.run(["useradd", "-m", "-s", "/bin/bash", "-K", "HOME_MODE=0755", *IDS, "-p", "*", name], check=True)
    entry = pwd.getpwnam(name)
    folder = Path(entry.pw_dir) / ".ssh"
    folder.mkdir(mode=0o700)
    file = folder / "authorized_keys"
    file.write_bytes(key.export_public_key())
    for path in (folder, file):
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _remove(names: Sequence[str]) -> None:
    known = [name for name in names if _exists(name)]
    if not known:
        return
    subprocess.run(["scancel", *(f"--user={name}" for name in known)], check=False, capture_output=True)
    until = time.monotonic() + ENDING
    asked = ["squeue", "--noheader", f"--user={','.join(known)}"]
    while subprocess.run(asked, check=False, capture_output=True).stdout.strip() and time.monotonic() < until:
        time.sleep(0.5)
    _accounting("delete", "user", ",".join(known))
    for name in known:
        remove_user(name)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _accounting(*arguments: str) -> None:
    """Change Slurm's accounting. That something is there already, or not, is no error: what counts are the jobs."""
    subprocess.run(["sacctmgr", "-i", "-Q", *arguments], check=False, capture_output=True)
