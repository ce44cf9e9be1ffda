"""Names that shells would read as something else, with every login shell: the named file is meant, nothing is run."""

from __future__ import annotations

import hashlib
import os
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from tests.v2.conftest import Api
from tests.v2.test_hostile_names import Place

from .accounts import SHELLS, Logins

pytestmark = pytest.mark.anyio

NAMES = [
    b"a\\b", b"a\\\\b", b"y\\'\x22(touch RAN) #", b"'; touch RAN; '", b"$(touch RAN)`touch RAN`", b"a\ntouch RAN\n",
    b"!!", b"=ls", b"*", b"[a-z]?{a,b}", b"-rf", b"--help", b"~root", b"a&touch RAN&|touch RAN;touch RAN", b">RAN",
    b"%s%n\\n\\", b"\xff\xfe\x1b[31m\x01\r", b"$HOME ${PATH}^a^b", b" a=b ", b"it's", b'\x1e0 "\\"',
]  # fmt: skip


@pytest.mark.parametrize("kind", SHELLS)
async def test_the_named_file_is_meant_and_nothing_is_run(logins: Logins, kind: str) -> None:
    home = os.fsencode(logins.home(kind))
    async with logins.client(kind) as client:
        api = cast("Api", SimpleNamespace(system=logins.site.system))
        place = Place(api, client, os.fsdecode(home) + "/work")
        await place.do("POST", "ops/mkdir", path=place.folder)

        async def made(name: bytes) -> None:
            await place.upload(place.folder, name, b"content of " + name)

        async def used(name: bytes) -> None:
            path, data = place.folder + b"/" + name, b"content of " + name
            assert (await place.output("checksum", path))["checksum"] == hashlib.sha256(data).hexdigest()
            assert "data" in (kind := await place.output("file", path)) or "text" in kind
            assert (await place.output("tail", path, bytes=1000))["content"] == data.decode("utf-8", "replace")
            assert (await place.output("du", path))["size"] >= len(data)
            other = place.folder + b"/d" + name
            await place.do("POST", "ops/mkdir", path=other)
            await place.do("POST", "ops/cp", path=path, targetPath=other + b"/" + name)
            await place.do("POST", "ops/compress", path=other, targetPath=other + name + b".tar", compression="none")
            await place.do(
                "POST", "ops/extract", path=other + name + b".tar", targetPath=other + name + b"x", compression="none"
            )
            assert (await place.get("download", other + name + b"x/d" + name + b"/" + name)).content == data
            await place.do("PUT", "ops/chmod", path=path, mode="600")
            await place.rm(other)
            await place.rm(other + name + b".tar")
            await place.rm(other + name + b"x")
            await place.do("POST", "ops/mv", path=path, targetPath=path + b".moved")

        for work in (made, used):
            async with anyio.create_task_group() as group:
                for name in NAMES:
                    group.start_soon(work, name)
        assert set(os.listdir(place.folder)) == {name + b".moved" for name in NAMES}  # noqa: PTH208 - bytes
        for name in NAMES:
            await place.rm(place.folder + b"/" + name + b".moved")
            assert not os.path.lexists(place.folder + b"/" + name + b".moved")
        assert os.listdir(place.folder) == []  # noqa: PTH208 - bytes
    assert not {name for _, _, names in os.walk(home) for name in names if name == b"RAN"}
