"""File operations: their effects and their responses."""

from __future__ import annotations

import stat as bits
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.errors import NotFound
from flamecrest.server.files.values import DiskSpace, ListingEntry, OwnerQuota, PathQuotas, QuotaUsage
from flamecrest.server.health.board import ProbeResult, Service
from tests.unit.http.local_files import LocalFiles
from tests.unit.http.world import World, fields, names

if TYPE_CHECKING:
    import httpx

    from flamecrest.server.deadline import Deadline

pytestmark = pytest.mark.anyio

OPS = "/filesystem/toy/ops"


@pytest.fixture
def lines(tmp_path: Path) -> str:
    path = tmp_path / "lines"
    path.write_text("".join(f"line {number}\n" for number in range(1, 101)))
    return str(path)


async def excerpt(client: httpx.AsyncClient, what: str, path: str, **asked: Any) -> Any:
    response = await client.get(f"{OPS}/{what}", params={"path": path, **asked})
    assert response.status_code == 200, response.text
    return response.json()["output"]


@pytest.mark.parametrize(
    ("what", "asked", "first", "length", "unit", "start", "end"),
    [
        ("head", {}, "line 1\n", 10, "lines", 0, 10),
        ("head", {"lines": 2}, "line 1\n", 2, "lines", 0, 2),
        ("head", {"bytes": 7}, "line 1\n", 1, "bytes", 0, 7),
        ("head", {"lines": 98, "skipTrailing": "true"}, "line 1\n", 2, "lines", 0, -98),
        ("head", {"bytes": 785, "skipTrailing": "1"}, "line 1\n", 1, "bytes", 0, -785),
        ("head", {"skipTrailing": "true"}, "line 1\n", 10, "lines", 0, 10),
        ("tail", {}, "line 91\n", 10, "lines", 10, -1),
        ("tail", {"lines": 2}, "line 99\n", 2, "lines", -2, -1),
        ("tail", {"bytes": 9}, "line 100\n", 1, "bytes", -9, -1),
        ("tail", {"lines": 99, "skipHeading": "true"}, "line 99\n", 2, "lines", 99, -1),
        ("tail", {"bytes": 784, "skipHeading": "true"}, "line 100\n", 1, "bytes", 784, -1),
        ("tail", {"skipHeading": "true"}, "line 91\n", 10, "lines", 10, -1),
    ],
)
async def test_head_and_tail(
    client: httpx.AsyncClient,
    lines: str,
    what: str,
    asked: Any,
    first: str,
    length: int,
    unit: str,
    start: int,
    end: int,
) -> None:
    part = await excerpt(client, what, lines, **asked)
    shown = part["content"].splitlines(keepends=True)
    assert (shown[0], len(shown)) == (first, length)
    assert (part["contentType"], part["startPosition"], part["endPosition"]) == (unit, start, end)


@pytest.mark.parametrize("what", ["head", "tail"])
@pytest.mark.parametrize("name", ["bytes", "lines"])
@pytest.mark.parametrize(
    "value", ["0", "-1", "x", "", "1.5", "1e3", "9223372036854775808", "9" * 5000, "\udcff", "\u0661x"]
)
async def test_invalid_counts(client: httpx.AsyncClient, lines: str, what: str, name: str, value: str) -> None:
    raw = value.encode("utf-8", "surrogateescape")
    response = await client.get(f"{OPS}/{what}?path={lines}&{name}=" + "".join(f"%{byte:02X}" for byte in raw))
    assert fields(response) == [("query", name)]


@pytest.mark.parametrize("what", ["head", "tail"])
async def test_bytes_and_lines_exclude_each_other(client: httpx.AsyncClient, what: str) -> None:
    """The error comes before the file is accessed."""
    response = await client.get(f"{OPS}/{what}", params={"path": "/nowhere", "bytes": 1, "lines": 1})
    assert response.status_code == 400
    assert response.json()["message"] == "Only one of `bytes` or `lines` can be specified."


async def test_head_and_tail_size_limit(world: World, lines: str) -> None:
    async with world.with_limits(view_size=10).client() as client:
        for what in ("head", "tail"):
            assert (await client.get(f"{OPS}/{what}", params={"path": lines})).status_code == 413
            assert (await excerpt(client, what, lines, bytes=10))["content"]


@pytest.mark.parametrize("limit", [1, 10, 100_000_000])
async def test_view_size_is_optional(world: World, lines: str, limit: int) -> None:
    async with world.with_limits(view_size=limit, max_ops_file_size=limit).client() as client:
        whole = Path(lines).read_text()
        for asked in ({}, {"offset": 0}, {"size": limit}):
            assert await excerpt(client, "view", lines, **asked) == whole[:limit]
        assert await excerpt(client, "view", lines, offset=792) == ""


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"size": 0}, "`size` value must be an integer value greater than 0"),
        ({"size": -1}, "`size` value must be an integer value greater than 0"),
        ({"size": 5242881}, "`size` value must be less than 5242880 bytes"),
        ({"size": 2**70}, "`size` value must be less than 5242880 bytes"),
        ({"offset": -1}, "`offset` value must be an integer value equal or greater than 0"),
        ({"offset": 2**63}, "`offset` value must be an integer value equal or greater than 0"),
    ],
)
async def test_view_range_limits(client: httpx.AsyncClient, lines: str, asked: Any, message: str) -> None:
    response = await client.get(f"{OPS}/view", params={"path": lines, **asked})
    assert (response.status_code, response.json()["message"]) == (400, message)


@pytest.mark.parametrize("asked", [{"size": "x"}, {"offset": ""}, {"size": "1.5"}, {"offset": "nan"}])
async def test_view_range_must_be_integers(client: httpx.AsyncClient, lines: str, asked: Any) -> None:
    response = await client.get(f"{OPS}/view", params={"path": lines, **asked})
    assert fields(response) == [("query", *asked)]


async def test_mkdir_symlink_chmod_chown_rm(client: httpx.AsyncClient, tmp_path: Path) -> None:
    folder, link = f"{tmp_path}/a/b", f"{tmp_path}/link"
    made = await client.post(f"{OPS}/mkdir", json={"source_path": folder, "parent": "true"})
    assert made.json()["output"]["name"] == folder
    linked = await client.post(f"{OPS}/symlink", json={"path": folder, "link_path": link})
    assert (linked.json()["output"]["name"], linked.json()["output"]["linkTarget"]) == (link, folder)
    changed = await client.put(f"{OPS}/chmod", json={"path": folder, "mode": "700"})
    assert changed.json()["output"]["permissions"] == "rwx------"
    for owner in (None, "", "root"):
        owned = await client.put(f"{OPS}/chown", json={"path": folder, "owner": owner, "group": None})
        assert owned.json()["output"]["user"] == "root"
    assert (await client.delete(f"{OPS}/rm", params={"path": f"{tmp_path}/a"})).status_code == 204
    assert not Path(folder).exists()
    dangling = await client.get(f"{OPS}/ls", params={"path": str(tmp_path), "dereference": "true"})
    assert [(one["name"], one["type"]) for one in dangling.json()["output"]] == [("link", "l")]


@pytest.mark.parametrize("compression", [None, "none", "gzip", "bzip2", "xz"])
async def test_compress_and_extract(client: httpx.AsyncClient, tmp_path: Path, compression: str | None) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("x")
    how = {} if compression is None else {"compression": compression}
    paths = {"path": f"{tmp_path}/folder", "targetPath": f"{tmp_path}/archive"}
    assert (await client.post(f"{OPS}/compress", json=paths | how)).status_code == 204
    with tarfile.open(tmp_path / "archive") as archive:
        assert archive.getnames() == ["folder", "folder/file"]
    paths = {"path": f"{tmp_path}/archive", "targetPath": f"{tmp_path}/out"}
    assert (await client.post(f"{OPS}/extract", json=paths | how)).status_code == 204
    assert (tmp_path / "out/folder/file").read_text() == "x"


async def test_listing_options(client: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("d/f", ".h"):
        (tmp_path / name).touch()

    async def listed(**asked: Any) -> list[dict[str, Any]]:
        output: list[dict[str, Any]] = (await client.get(f"{OPS}/ls", params={"path": str(tmp_path), **asked})).json()[
            "output"
        ]
        return output

    assert names(await listed()) == ["d"]
    assert names(await listed(showHidden="true")) == [".h", "d"]
    assert names(await listed(recursive="TRUE")) == ["d", "d/f"]
    assert {one["user"] for one in await listed(numericUid="1")} == {"0"}


class LargeDirectory(LocalFiles):
    """A directory with 10,000 entries."""

    async def ls(self, path: str, deadline: Deadline, *_: Any, **__: Any) -> list[ListingEntry]:  # noqa: ARG002
        return [
            ListingEntry(
                f"file{number:05}" + ("\udcff" if number == 4321 else "%"),
                "-",
                "rw-r--r--",
                "u",
                "g",
                number,
                "2026-01-01T00:00:00",
            )
            for number in range(10_000)
        ]


async def test_long_listing_is_complete_and_ordered(tmp_path: Path) -> None:
    async with World(str(tmp_path), files=LargeDirectory()).client() as client:
        output = (await client.get(f"{OPS}/ls", params={"path": str(tmp_path)})).json()["output"]
    assert [one["size"] for one in output] == [str(number) for number in range(10_000)]
    assert (output[4321]["name"], output[4321]["encoding"]) == ("file04321%FF", "percent")
    assert all("encoding" not in one for one in output[:4321] + output[4322:])
    assert output[4320]["name"] == "file04320%"


async def test_empty_listing(client: httpx.AsyncClient, tmp_path: Path) -> None:
    assert (await client.get(f"{OPS}/ls", params={"path": str(tmp_path)})).json() == {"output": []}


async def test_stat_dereference(client: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    for follow, kind in (("false", bits.S_ISLNK), ("true", bits.S_ISREG)):
        found = await client.get(f"{OPS}/stat", params={"path": str(tmp_path / "link"), "dereference": follow})
        assert kind(found.json()["output"]["mode"])


class WithQuotas(LocalFiles):
    """A disk with quotas."""

    def __init__(self, quota: PathQuotas | None) -> None:
        super().__init__()
        self.quota = quota

    async def df(self, path: str, deadline: Deadline) -> DiskSpace:
        return replace(await super().df(path, deadline), quota=self.quota)


@pytest.mark.parametrize(
    "group", [None, OwnerQuota("p\ufffdj", QuotaUsage(2**70, None, None, None), QuotaUsage(0, 1, 2, 3))]
)
async def test_quotas(tmp_path: Path, group: OwnerQuota | None) -> None:
    user = OwnerQuota("ann", QuotaUsage(4096, None, 2048, None), QuotaUsage(14, 10, 20, 1795925742))
    async with World(str(tmp_path), files=WithQuotas(PathQuotas(user, group))).client() as client:
        found = (await client.get(f"{OPS}/df", params={"path": str(tmp_path)})).json()["output"]["quota"]
    assert found["user"] == {
        "name": "ann",
        "space": {"used": 4096, "soft": None, "hard": 2048, "graceUntil": None},
        "files": {"used": 14, "soft": 10, "hard": 20, "graceUntil": 1795925742},
    }
    assert (found["group"] and found["group"]["space"]["used"]) == (group and 2**70)


async def test_no_quotas(client: httpx.AsyncClient, tmp_path: Path) -> None:
    assert (await client.get(f"{OPS}/df", params={"path": str(tmp_path)})).json()["output"]["quota"] is None


async def test_unhealthy_file_system_gives_503(client: httpx.AsyncClient, world: World) -> None:
    from datetime import UTC, datetime

    for _ in range(2):
        down = ProbeResult(Service.FILESYSTEM, healthy=False, checked=datetime.now(UTC), latency=1, path=world.root)
        world.board.record(down)
    response = await client.get(f"{OPS}/ls", params={"path": world.root})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1


async def test_a_request_that_is_served_opens_the_file_system(client: httpx.AsyncClient, world: World) -> None:
    from datetime import UTC, datetime, timedelta

    then = datetime.now(UTC) - timedelta(minutes=1)
    for _ in range(2):
        world.board.record(ProbeResult(Service.FILESYSTEM, healthy=False, checked=then, latency=1, path=world.root))
    world.passed += 60
    missing = await client.get(f"{OPS}/ls", params={"path": f"{world.root}/missing"})
    assert missing.status_code == 404  # this request has tried the file system
    assert (await client.get(f"{OPS}/ls", params={"path": world.root})).status_code == 503
    for _ in range(2):
        world.board.record(ProbeResult(Service.SSH, healthy=False, checked=then, latency=1))
    world.passed += 60
    world.board.succeeded(Service.FILESYSTEM, world.root)
    assert (await client.get(f"{OPS}/ls", params={"path": world.root})).status_code == 200
    assert not world.board.refused


class Slow(LocalFiles):
    """A disk that responds after the deadline."""

    async def file_type(self, path: str, deadline: Deadline) -> str:  # noqa: ARG002
        import asyncio

        async with deadline.enforce("file"):
            await asyncio.Event().wait()
        raise NotFound("never")


async def test_expired_deadline_gives_408(tmp_path: Path) -> None:
    world = World(str(tmp_path), files=Slow()).with_limits(files=0.01, jobs=1000)
    async with world.client() as client:
        response = await client.get(f"{OPS}/file", params={"path": str(tmp_path)})
    assert response.status_code == 408
