"""The recorded FirecREST exchanges, replayed against the HTTP room over in-memory ports."""

# ruff: noqa: ARG002 -- a port's method takes what the port says

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.errors import Denied
from tests.contract import exchanges

from .local_files import LocalFiles
from .world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import httpx

    from flamecrest.server.deadline import Deadline

EXCHANGES = exchanges.load()


class DeniedPaths(LocalFiles):
    """A disk that denies access to some paths. The tests run as root, so file modes deny nothing."""

    async def mkdir(self, path: str, deadline: Deadline, *, parents: bool = False, exist_ok: bool = False) -> None:
        if path.endswith("root-owned"):
            raise Denied(f"mkdir: cannot create directory '{path}': Permission denied")
        await super().mkdir(path, deadline, parents=parents, exist_ok=exist_ok)

    def download(self, path: str, deadline: Deadline, *, choose_start: Any = None):
        if "/user01/" in path:
            raise Denied(f"{path}: Permission denied")
        return super().download(path, deadline, choose_start=choose_start)

    async def chown(self, path: str, owner: str, group: str, deadline: Deadline) -> None:
        if owner == "user01":
            raise Denied(f"chown: changing ownership of '{path}': Operation not permitted")


def prepare(folder: Path, case: str) -> None:
    """Create the files that existed when the exchange was recorded and that no recorded request creates."""
    if case == "symlink":
        (folder / "lines.txt").write_text("".join(f"line {number}\n" for number in range(1, 101)))
        for name, data in {"empty": b"", ".hidden": b".", "bin.dat": bytes(1024)}.items():
            (folder / name).write_bytes(data)
        (folder / "dang").symlink_to(folder / "nowhere")


async def replayed(root: Path) -> Mapping[str, httpx.Response]:
    """The response to every exchange, sent in the recorded order."""
    world = World(str(root), files=DeniedPaths())
    home = root / "fireuser"
    home.mkdir()
    responses = {}
    async with world.client() as client:
        for exchange in EXCHANGES:
            case = exchange["case"]
            prepare(home / "work", case)
            if case == "job.get.running":
                world.queue.specs["319"], world.queue.states["319"] = world.queue.specs["315"], "RUNNING"
            if case == "job.get.done":
                world.queue.states["315"] = "COMPLETED"
            responses[case] = await exchanges.send(client, exchange, renaming(root))
    return responses


def renaming(root: Path) -> Callable[[str], str]:
    return lambda text: text.replace(exchanges.SYSTEM, "toy").replace("/home/", f"{root}/")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exchanges")


@pytest.fixture(scope="module")
def responses(root: Path) -> Mapping[str, httpx.Response]:
    return asyncio.run(replayed(root))


@pytest.mark.parametrize("exchange", EXCHANGES, ids=[exchange["case"] for exchange in EXCHANGES])
def test_exchange(root: Path, responses: Mapping[str, httpx.Response], exchange: dict[str, Any]) -> None:
    exchanges.compare(exchange, responses[exchange["case"]], renaming(root))


def test_all_exchanges_are_replayed() -> None:
    assert len(EXCHANGES) == 68
