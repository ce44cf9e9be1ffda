"""The sites that the benchmark runs on: their SSH server, their token issuer, and the files that are read."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncssh
from anyio.from_thread import start_blocking_portal
from tests.live.process import free_port, running
from tests.live.site import Site

from flamecrest.sandbox.issuer import Issuer

from .sandbox import user_names

FILES = 1000
SIZE = 1024  # bytes of each file
PROGRAMS = {"wrk": "wrk", "ssh": "openssh-client"}  # programs and the Debian packages that contain them
TOKEN_LIFETIME = 6 * 3600  # seconds; longer than any run


class NotReadyError(Exception):
    """The site cannot be used. The text says what to do."""


@contextmanager
def real() -> Iterator[Site]:
    """The site that FLAMECREST_LIVE_* variables describe. Raises NotReadyError if it does not answer."""
    site = Site.from_environment()
    reason = site.why_not()
    if reason is not None:
        raise NotReadyError(f"{reason}; or use --sandbox")
    yield site


@contextmanager
def sandbox(folder: Path, users: int) -> Iterator[Site]:
    """A sandbox with that many users, in a process of its own."""
    here, port = folder / "sandbox", free_port()
    here.mkdir()
    argv = [sys.executable, "-m", "bench.contenders.sandbox", str(here), str(users), str(port)]
    names = user_names(users)
    site = Site(
        system="sandbox",
        host="127.0.0.1",
        port=port,
        keys=here / "keys",
        known_hosts=here / "known_hosts",
        users=names,
        service_user=names[0],
        root=str(here.resolve() / "root/home"),
        account="test",
    )
    with running(argv, folder / "sandbox.log", lambda: site.why_not() is None):
        yield site


@contextmanager
def issuing(site: Site) -> Iterator[Issuer]:
    """A token issuer for the site's users, in a thread of its own."""
    with start_blocking_portal("asyncio") as portal:
        issuer = Issuer(site.clients(), ttl=TOKEN_LIFETIME)
        portal.call(issuer.start)
        try:
            yield issuer
        finally:
            portal.call(issuer.stop)


@contextmanager
def small_files(site: Site) -> Iterator[str]:
    """Create a directory with FILES files of SIZE random bytes in the home of the site's first user.

    The directory, and everything beside it whose name begins with its name, is removed at the end.
    """
    folder = f"{site.home(site.user)}/.flamecrest-bench-{secrets.token_hex(4)}"
    quoted = shlex.quote(folder)
    make = f"head -c {FILES * SIZE} /dev/urandom | split -b {SIZE} -a 4 -d - f"
    asyncio.run(run_command(site, f"mkdir {quoted} && cd {quoted} && {make}"))
    try:
        yield folder
    finally:
        asyncio.run(run_command(site, f"rm -rf {quoted} {quoted}.*"))


def file_paths(folder: str) -> Sequence[str]:
    """The paths of the files that `small_files` creates."""
    return [f"{folder}/f{number:04}" for number in range(FILES)]


def missing_programs() -> Iterator[str]:
    """One message for each program that is not installed."""
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            yield f"{program} is not installed: workloads that need it are skipped (apt-get install {package})"


async def run_command(site: Site, line: str) -> str:
    """Run a shell command as the site's first user and return its standard output."""
    async with asyncssh.connect(
        site.host,
        site.port,
        username=site.user,
        client_keys=[asyncssh.read_private_key(site.key(site.user))],
        known_hosts=str(site.known_hosts),
        config=None,
        agent_path=None,
    ) as connection:
        return str((await connection.run(line, check=True)).stdout)
