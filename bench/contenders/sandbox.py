"""The sandbox's SSH server in a process of its own, so that it does not slow down the load generator.

`python -m bench.contenders.sandbox FOLDER USERS PORT` creates accounts and keys in FOLDER and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import asyncssh

from flamecrest.sandbox import userland
from flamecrest.sandbox.ssh.server import SshServer
from flamecrest.sandbox.users import UnixUsers

SESSIONS = 100  # channels of one connection; the real centre's MaxSessions


def user_names(count: int) -> list[str]:
    """The names of the accounts."""
    return [f"user{number:03}" for number in range(1, count + 1)]


def make_keys(folder: Path, users: list[str]) -> dict[str, list[asyncssh.SSHKey]]:
    """Write a private key file for each user and return the keys by user."""
    folder.mkdir(mode=0o700)
    public = {}
    for user in users:
        key = asyncssh.generate_private_key("ssh-ed25519")
        (folder / user).touch(mode=0o600)
        key.write_private_key(folder / user)
        public[user] = [key]
    return public


async def serve_sandbox(folder: Path, count: int, port: int) -> None:
    """Create the accounts and serve until SIGTERM or SIGINT."""
    names = user_names(count)
    users = UnixUsers(folder / "root", names)
    for user in users:
        user.home.mkdir(parents=True)
    programs = folder / "root/bin"
    userland.install(users, programs)  # commands and the agent see the same made-up owners as SFTP does
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    keys = make_keys(folder / "keys", names)
    (folder / "known_hosts").write_bytes(f"[127.0.0.1]:{port} ".encode() + host_key.export_public_key())
    server = SshServer(users, host_key, keys=keys, bin_dirs=[programs], max_sessions=SESSIONS, max_startups=500)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start(port)
    try:
        await stop.wait()
    finally:
        await server.stop()


if __name__ == "__main__":
    asyncio.run(serve_sandbox(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
