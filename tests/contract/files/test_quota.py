"""df on a cluster with a program `quota`: recorded output, and failing programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import NotFound, Timeout
from flamecrest.server.files.values import QuotaUsage

from .places import Place, on_sandbox, soon

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parents[2] / "recorded" / "quota-4.06" / "050-ext4-over-soft.out"

With = Callable[[str], AbstractAsyncContextManager[Place]]


@pytest.fixture
def place_with(tmp_path: Path) -> With:
    """A place whose `quota` is this shell script."""

    @asynccontextmanager
    async def start(script: str) -> AsyncIterator[Place]:
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "quota").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "quota").chmod(0o755)
        async with on_sandbox(tmp_path, subsystem=True, programs=[programs]) as place:
            yield place

    return start


async def test_quotas_come_with_df(place_with: With, tmp_path: Path) -> None:
    """Recorded output with exit status 1; the recorded group is replaced with the group of new files."""
    asked = tmp_path / "asked"
    script = f"""printf '%s\\n' "$@" > '{asked}'; sed "1,2d; s/gid 2002/gid $(id -g)/" '{RECORDED}'; exit 1"""
    async with place_with(script) as place:
        space = await place.queries.df(place.folder, soon())
        found = await place.run('df --output=source,target "$1"', place.folder)
    assert space.total > 0
    assert space.quota is not None
    assert space.quota.user is not None
    assert space.quota.user.name == "soft"
    assert space.quota.user.space == QuotaUsage(5144 * 1024, 1024 * 1024, 102400 * 1024, 1795925739)
    assert space.quota.group is not None
    assert space.quota.group.space == QuotaUsage(5144 * 1024, None, None, None)
    *options, where = asked.read_text().splitlines()
    assert options == ["-u", "-g", "-v", "-w", "-p", "-f", "--"]
    assert where in found.decode().split()


@pytest.mark.parametrize(
    "script",
    [
        "echo 'quota: command not allowed here' >&2; exit 3",
        "kill -9 $$",
        "head -c 3000000 /dev/zero",  # more than the output limit
        "head -c 300000 /dev/urandom",
        'echo "Your quota on /home: 10 of 20 GB used"',
    ],
)
async def test_failing_or_foreign_quota_program_is_ignored(place_with: With, script: str) -> None:
    async with place_with(script) as place:
        space = await place.queries.df(place.folder, soon())
        assert space.total > 0
        assert space.quota is None
        with pytest.raises(NotFound, match="No such file"):
            await place.queries.df(place.path("none"), soon())


async def test_hanging_quota_program_is_ignored(place_with: With) -> None:
    async with place_with("exec sleep 1000") as place:
        space, seconds = None, 0.5
        while space is None:  # too short a deadline to wait for the program's end
            seconds *= 2
            with suppress(Timeout):
                space = await place.queries.df(place.folder, Deadline.after(seconds))
        assert space.total > 0
        assert space.quota is None
