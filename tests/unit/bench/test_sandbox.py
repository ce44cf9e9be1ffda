"""The sandbox that the benchmark starts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
from bench.contenders import sites

from tests.live.site import Site


def test_commands_and_sftp_see_the_same_owner_of_a_file(tmp_path: Path) -> None:
    """Uploads compare them: a temporary file of another owner is not put in the place of its target."""
    with sites.sandbox(tmp_path, users=1) as site:
        line = ": > file; perl -e 'print((lstat shift)[4])' \"$HOME/file\""
        assert asyncio.run(sites.run_command(site, line)) == str(asyncio.run(owner(site, "file")))


async def owner(site: Site, path: str) -> int | None:
    """The owner that SFTP reports."""
    async with (
        asyncssh.connect(
            site.host,
            site.port,
            username=site.user,
            client_keys=[str(site.key(site.user))],
            known_hosts=str(site.known_hosts),
            config=None,
            agent_path=None,
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        return (await sftp.lstat(path)).uid
