"""Operations that need one program take one channel: under pressure each channel is a turn in the queue."""

from __future__ import annotations

import asyncio
import re
from hashlib import sha256

import pytest

from flamecrest.server.errors import Invalid, NotFound
from flamecrest.server.files.remote.cluster_facts import ClusterFacts
from flamecrest.server.files.remote.queries import remote_files
from flamecrest.server.ssh.session import PooledSessions
from tests.unit.ssh.conftest import World
from tests.unit.ssh.pool.test_pool import ANN, soon

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("agent", [True, False])
async def test_a_checksum_waits_for_one_channel(world: World, agent: bool):
    path = world.root / "home/ann/file"
    path.write_bytes(b"data")
    async with world.pool(max_sessions=1, per_user=1) as pool:
        queries = remote_files(PooledSessions(pool, agent=agent), ClusterFacts(), ANN).queries
        asked = [queries.checksum(str(path), soon()) for _ in range(10)]
        assert set(await asyncio.gather(*asked)) == {sha256(b"data").hexdigest()}
        assert pool.counters.channels_opened == len(asked)
        with pytest.raises(NotFound, match=r"^sha256sum: .*/none: No such file or directory$"):
            await queries.checksum(str(path.with_name("none")), soon())
        with pytest.raises(Invalid, match=r"^sha256sum: .*/home/ann: Is a directory$"):
            await queries.checksum(str(path.parent), soon())
        assert pool.counters.channels_opened == len(asked) + 2


@pytest.mark.parametrize("agent", [True, False])
@pytest.mark.parametrize("what", ["du", "file"])
async def test_usage_and_type_wait_for_one_channel(world: World, agent: bool, what: str):
    home = world.root / "home/ann"
    (home / "file").write_bytes(b"data")
    (home / "dangling").symlink_to("nowhere")
    async with world.pool(max_sessions=1, per_user=1) as pool:
        queries = remote_files(PooledSessions(pool, agent=agent), ClusterFacts(), ANN).queries
        ask = queries.du if what == "du" else queries.file_type
        asked = [ask(str(home / name), soon()) for name in ("file", "file", "dangling", ".")]
        found = await asyncio.gather(*asked)
        assert found[0] == found[1] != found[2]
        assert pool.counters.channels_opened == len(asked)
        words = "du: cannot access" if what == "du" else "file: cannot open"
        for path in ("none", "file/none", "-n", "$(touch x)"):
            with pytest.raises((NotFound, Invalid), match=rf"^{words} '.*{re.escape(path)}': (No such|Not a dir)"):
                await ask(str(home / path), soon())
        assert not (home / "x").exists()


@pytest.mark.parametrize(
    "name", ["a'b", "stat: x", "no regular file: x", "two\nlines", "-n", "$(touch x)", "back\\slash"]
)
async def test_the_name_of_a_file_is_no_part_of_the_command(world: World, name: str):
    home = world.root / "home/ann"
    path = home / name
    path.write_bytes(b"no regular file: 1 2 3")
    async with world.pool() as pool:
        queries = remote_files(PooledSessions(pool), ClusterFacts(), ANN).queries
        assert await queries.checksum(str(path), soon()) == sha256(path.read_bytes()).hexdigest()
        path.unlink()
        with pytest.raises(NotFound, match=r"No such file or directory$"):
            await queries.checksum(str(path), soon())
        assert [one for one in home.iterdir() if one.name == "x"] == []
