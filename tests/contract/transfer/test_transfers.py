"""Contract of the Transfers port: effects on files, exit statuses and logs."""

from __future__ import annotations

import secrets

import pytest

from flamecrest.server.errors import Invalid
from flamecrest.server.files.values import Compression, CompressOptions
from flamecrest.server.transfer.port import TransferRequest
from tests.contract.capabilities import needs
from tests.contract.gateways import soon

from .conftest import Place

pytestmark = pytest.mark.anyio

NAMES = ["plain", "it's", 'say "hi" $(id) `id` *', "é 漢", "-rf", "two\nlines"]


async def folder(place: Place) -> str:
    """A folder for one case."""
    path = f"{place.folder}/{secrets.token_hex(4)}"
    await place.disk.mkdir(path)
    return path


@needs("runs")
@pytest.mark.parametrize("name", NAMES)
async def test_mv(place: Place, name: str):
    work = await folder(place)
    await place.disk.write(f"{work}/{name}", "content")
    transfer = await place.transfers.mv(f"{work}/{name}", f"{work}/new {name}", soon(), account=place.account)
    await place.worked(transfer, "moved")
    assert await place.disk.names(work) == [f"new {name}"]
    assert await place.disk.read(f"{work}/new {name}") == "content"


@needs("runs")
@pytest.mark.parametrize("dereference", [False, True])
async def test_cp_of_a_tree(place: Place, dereference: bool):
    work = await folder(place)
    await place.disk.mkdir(f"{work}/tree")
    await place.disk.write(f"{work}/tree/file", "content")
    await place.disk.symlink("file", f"{work}/tree/link")
    transfer = await place.transfers.cp(
        f"{work}/tree", f"{work}/copy", soon(), account=place.account, dereference=dereference
    )
    await place.worked(transfer, "copied")
    assert await place.disk.names(f"{work}/copy") == ["file", "link" if dereference else "link@"]
    assert await place.disk.read(f"{work}/copy/link") == "content"


@needs("runs")
async def test_rm_of_a_tree(place: Place):
    work = await folder(place)
    await place.disk.mkdir(f"{work}/tree")
    await place.disk.write(f"{work}/tree/file", "content")
    await place.worked(await place.transfers.rm(f"{work}/tree", soon(), account=place.account), "deleted")
    assert await place.disk.names(work) == []


@needs("runs")
@pytest.mark.parametrize("compression", ["none", "gzip", "bzip2", "xz"])
async def test_archive_round_trip(place: Place, compression: Compression):
    work = await folder(place)
    await place.disk.mkdir(f"{work}/it's")
    for name in ("a.txt", "b.dat"):
        await place.disk.write(f"{work}/it's/{name}", name)
    options = CompressOptions(compression, pattern=r".*\.txt")
    account, archive, target = place.account, f"{work}/an archive", f"{work}/out"
    transfer = await place.transfers.compress(f"{work}/it's", archive, soon(), account=account, options=options)
    await place.worked(transfer, "compressed")
    transfer = await place.transfers.extract(archive, target, soon(), account=account, compression=compression)
    await place.worked(transfer, "extracted")
    assert await place.disk.names(f"{target}/it's") == ["a.txt"]
    assert await place.disk.read(f"{target}/it's/a.txt") == "a.txt"


@needs("runs")
async def test_missing_source(place: Place):
    work = await folder(place)
    missing, target, account = f"{work}/missing", f"{work}/target", place.account
    transfers, reason = place.transfers, "No such file or directory"
    await place.failed(await transfers.mv(missing, target, soon(), account=account), reason)
    await place.failed(await transfers.cp(missing, target, soon(), account=account, dereference=False), reason)
    await place.failed(await transfers.rm(missing, soon(), account=account), reason)
    assert await place.disk.names(work) == []


@needs("runs")
@pytest.mark.parametrize("account", ["a b", "x\n#SBATCH --wrap=id", "x" * 65])
async def test_invalid_accounts(place: Place, account: str):
    with pytest.raises(Invalid) as caught:
        await place.transfers.rm(f"{place.folder}/none", soon(), account=account)
    assert [field.name for field in caught.value.fields] == ["account"]


@needs("refuses_methods")
@pytest.mark.parametrize("method", ["s3", "streamer", "wormhole"])
async def test_unavailable_method(place: Place, method: str):
    for start in (place.transfers.upload, place.transfers.download):
        with pytest.raises(Invalid, match=f"the method {method} is not available on") as caught:
            await start(f"{place.folder}/file", soon(), account=place.account, request=TransferRequest(method))
        assert [(field.location, field.name) for field in caught.value.fields] == [("body", "transferMethod")]


@needs("starts_methods")
async def test_available_method(place: Place):
    for start in (place.transfers.upload, place.transfers.download):
        started = await start(f"{place.folder}/file", soon(), account=None, request=TransferRequest("s3", file_size=7))
        assert started.job.job_id
        with pytest.raises(Invalid, match="the method wormhole is not available on"):
            await start(f"{place.folder}/file", soon(), account=None, request=TransferRequest("wormhole"))
