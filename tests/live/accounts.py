"""Users of this machine that exist for a test, and the keys by which they log in to an sshd of the test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import asyncssh
import pytest

PATIENCE: Final = 30.0  # seconds until the processes of a user have ended


@contextmanager
def new_user(name: str) -> Iterator[Path]:
    """A new user, who logs in by key only, and the home directory. The test is skipped unless root runs it."""
    if os.getuid() != 0 or shutil.which("useradd") is None:
        pytest.skip("only root can make a user")
    remove_user(name)  # of a run that was killed
    subprocess.run(["useradd", "-m", "-s", "/bin/bash", "-p", "*", name], check=True)
    try:
        yield Path(pwd.getpwnam(name).pw_dir)
    finally:
        remove_user(name)


def sshd_keys(folder: Path) -> tuple[asyncssh.SSHKey, asyncssh.SSHKey]:
    """The keys of an sshd and of its users. The folder gets the file `host`, and `keys` with the public second one."""
    host, mine = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    host.write_private_key(folder / "host")
    (folder / "host").chmod(0o600)
    mine.write_public_key(folder / "keys")
    (folder / "keys").chmod(0o644)
    for above in (folder, *folder.parents[:-2]):
        above.chmod(above.stat().st_mode | 0o011)  # the users' own processes read the keys
    return host, mine


def remove_user(name: str) -> None:
    """Remove a user, if there is one, with the processes that are left: `userdel` removes nobody who has some."""
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        return
    until = time.monotonic() + PATIENCE
    while True:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if process.stat().st_uid == uid:
                    os.kill(int(process.name), signal.SIGKILL)
        done = subprocess.run(["userdel", "-r", name], check=False, capture_output=True)
        if done.returncode == 0:
            return
        assert time.monotonic() < until, done.stderr.decode("utf-8", "replace")
        time.sleep(0.05)
