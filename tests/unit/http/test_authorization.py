"""Rules about paths at the edge: links, `..`, encodings and case do not lead around them, and nothing is leaked."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flamecrest.server.auth.authorization.by_rules import RulesAuthorizer
from flamecrest.server.auth.authorization.composed import ReportOnly
from flamecrest.server.auth.authorization.conditions import Condition
from flamecrest.server.auth.authorization.rules import Effect, Rule
from flamecrest.server.auth.port import Verb
from flamecrest.server.cluster import Cluster
from tests.unit.http.world import CALLER, World

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flamecrest.server.auth.port import Authorizer, Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ports import Ports

pytestmark = pytest.mark.anyio

OPS = "/filesystem/toy/ops"


class Ruled(World):
    """A world whose callers may use `own` and read `public`, but nothing in `own/secret`."""

    def __init__(self, root: str, authorizer: Authorizer | None = None) -> None:
        self.resolved = 0
        self.authorizer = authorizer or RulesAuthorizer(
            [
                Rule("own", verbs=["files:*", "transfer"], paths=[f"{root}/own"]),
                Rule("public", verbs=["files:read"], paths=[f"{root}/public"]),
                Rule("no secrets", effect=Effect.DENY, paths=[f"{root}/own/secret"]),
                Rule("jobs", verbs=["jobs:read"], users=["fireuser"]),
            ]
        )
        super().__init__(root)
        self.gateway = replace(self.gateway, authorizer=self.authorizer)

    def _cluster(self) -> Cluster:
        made = super()._cluster()
        return Cluster(
            "Toy", roots=[self.root], limits=made.limits, ports=self.ports(), board=self.board, describe=self.describe,
            authorizer=self.authorizer,
        )  # fmt: skip

    def ports(self) -> Ports:
        async def resolve(_: Identity, paths: Sequence[str], __: Deadline) -> list[str]:
            self.resolved += 1
            return await asyncio.to_thread(lambda: [os.path.realpath(path) for path in paths])

        return replace(super().ports(), resolve=resolve)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("own/secret", "own/dir", "public", "other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text(name)
    for link, target in {
        "own/to-other": "../other",
        "own/to-file": "../other/file",
        "own/to-secret": "secret",
        "own/dir/up": "..",
        "own/inside": "dir",
        "own/dangling": "../other/new",
        "other/to-own": "../own",
    }.items():
        (tmp_path / link).symlink_to(target)
    return tmp_path


async def statuses(world: World, requests: Sequence[tuple[str, str, dict[str, Any]]]) -> list[int]:
    async with world.client() as client:
        return [(await client.request(method, url, **options)).status_code for method, url, options in requests]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("own/dir/file", 200),
        ("own/inside/file", 200),
        ("own/dir/up/dir/file", 200),
        ("own/../own/dir/file", 200),
        ("public/file", 200),
        ("other/file", 403),
        ("own/../other/file", 403),
        ("own/to-other/file", 403),
        ("own/to-file", 403),
        ("own/to-secret/file", 403),
        ("own/dir/up/secret/file", 403),
        ("own/dir/../secret/file", 403),
        ("own/./secret//file", 403),
        ("own/dangling", 403),
        ("own/to-other/missing/deeper", 403),
        ("own/dir/missing", 404),
        ("other/to-own/dir/file", 403),
        ("OWN/dir/file", 403),
        ("own%2Fdir/file", 403),
        ("own/dir/file/../../../other/file", 403),
        ("ownx", 403),
    ],
)
async def test_what_a_path_leads_to_decides(root: Path, path: str, status: int) -> None:
    found = await statuses(Ruled(str(root)), [("GET", f"{OPS}/stat", {"params": {"path": f"{root}/{path}"}})])
    assert found == [status]


@pytest.mark.parametrize(
    "path", ["", "own/dir/file", "~/own", "/etc/passwd", "/", "{root}/own/\0", "{root}/..", "file:///"]
)
async def test_what_is_no_path_of_the_cluster_is_allowed_by_no_rule(root: Path, path: str) -> None:
    given = {"params": {"path": path.replace("{root}", str(root))}}
    (found,) = await statuses(Ruled(str(root)), [("GET", f"{OPS}/stat", given)])
    assert found == 400


async def test_trees_with_a_denied_folder_and_sources_without_files_read(root: Path) -> None:
    own, other, public, secret = (f"{root}/{name}" for name in ("own", "other", "public", "own/secret"))
    world = Ruled(str(root))
    found = await statuses(
        world,
        [
            ("GET", f"{OPS}/ls", {"params": {"path": own}}),
            ("GET", f"{OPS}/ls", {"params": {"path": own, "recursive": "true"}}),
            ("GET", f"{OPS}/du", {"params": {"path": own}}),
            ("DELETE", f"{OPS}/rm", {"params": {"path": own}}),
            ("POST", "/filesystem/toy/bulk/download", {"json": {"paths": [f"{own}/s*"]}}),
            ("POST", f"{OPS}/mv", {"json": {"path": f"{own}/dir", "targetPath": f"{secret}/x"}}),
            ("POST", f"{OPS}/cp", {"json": {"path": f"{other}/file", "targetPath": f"{own}/x"}}),
            ("POST", f"{OPS}/cp", {"json": {"path": f"{own}/dir/file", "targetPath": f"{public}/x"}}),
            ("POST", f"{OPS}/symlink", {"json": {"path": f"{other}/file", "linkPath": f"{own}/x"}}),
            ("POST", f"{OPS}/upload", {"params": {"path": own}, "files": {"file": ("../other/x", b"")}}),
            ("PUT", f"{OPS}/upload", {"params": {"path": f"{own}/to-other/x"}, "content": b""}),
            ("POST", "/filesystem/toy/transfer/rm", {"params": {"path": own}}),
        ],
    )
    assert found[0] == 200
    assert {*found[1:]} <= {403, 400, 405}
    assert (root / "own/secret/file").exists()
    assert not (root / "other/x").exists()


async def test_a_denial_names_no_rule_and_what_it_names_is_the_callers(root: Path) -> None:
    async with Ruled(str(root)).client() as client:
        response = await client.get(f"{OPS}/stat", params={"path": f"{root}/own/to-file"})
    assert response.json()["message"] == "You are not permitted to do this on Toy for this path (files:read)"


async def test_links_are_resolved_only_for_rules_about_paths(root: Path) -> None:
    world = Ruled(str(root), RulesAuthorizer([Rule("all")]))
    assert await statuses(world, [("GET", f"{OPS}/stat", {"params": {"path": f"{root}/own"}})]) == [200]
    assert world.resolved == 0
    world = Ruled(str(root))
    requests = [("GET", f"{OPS}/stat", {"params": {"path": f"{root}/own"}}), ("GET", "/compute/toy/jobs", {})]
    assert await statuses(world, requests) == [200, 200]
    assert world.resolved == 1


async def test_systems_are_those_that_the_caller_may_use(root: Path) -> None:
    for users, count in ((["bob"], 0), (["fireuser"], 1)):
        world = Ruled(str(root), RulesAuthorizer([Rule("r", users=users, verbs=["status"])]))
        async with world.client() as client:
            assert len((await client.get("/status/systems")).json()["systems"]) == count


async def test_report_allows_and_logs(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = Ruled(str(root), ReportOnly(RulesAuthorizer([Rule("r", users=["bob"])])))
    assert await statuses(world, [("GET", f"{OPS}/stat", {"params": {"path": str(root)}})]) == [200]
    (record,) = [one for one in caplog.records if one.message == "would be denied"]
    assert record.fields == {  # type: ignore[attr-defined]
        "user": "fireuser", "verb": Verb.FILES_READ, "cluster": "Toy", "rule": "none", "reason": "no rule allows it",
    }  # fmt: skip


async def test_a_followed_file_that_becomes_a_link_is_decided_about_again(root: Path) -> None:
    """`tail?follow=true` opens the file anew when another one has its name."""
    world = Ruled(str(root))
    file, link = root / "own/log", root / "own/link"
    file.write_text("mine\n")
    received = ""
    async with (
        world.served() as served,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", headers=CALLER, timeout=30) as client,
        client.stream("GET", f"{OPS}/tail", params={"path": str(file), "follow": "true"}) as response,
    ):
        assert response.status_code == 200
        async for line in response.aiter_lines():
            received += line
            if "mine" in line:
                link.symlink_to(root / "own/secret/file")
                link.rename(file)
    assert "mine" in received
    assert "rotated" not in received


async def test_a_condition_on_the_path_decides_about_each_item(root: Path) -> None:
    rule = Rule("own", verbs=["files:read"], condition=Condition(f"path.startsWith('{root}/own')"))
    world = Ruled(str(root), RulesAuthorizer([rule]))
    items = [{"path": f"{root}/{name}/file"} for name in ("own/dir", "other")]
    async with world.client() as client:
        response = await client.post("/filesystem/toy/bulk/stat", json={"items": items})
        assert [one["status"] for one in response.json()["results"]] == [200, 403]
        assert (await client.post("/filesystem/toy/bulk/rm", json={"items": items})).status_code == 403
