"""Contract of the Transfers port: effects on files, exit statuses and logs."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial

import pytest

from flamecrest.server.errors import Invalid, KeyReused
from flamecrest.server.files.values import Compression, CompressOptions
from flamecrest.server.transfer.port import SubmittedTransfer, TransferRequest
from flamecrest.server.transfer.records.names import is_same
from tests.contract.capabilities import needs
from tests.contract.gateways import soon, when_certain

from .conftest import Place

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]  # jobs wait for other jobs of the cluster

NAMES = ["plain", "it's", 'say "hi" $(id) `id` *', "é 漢", "-rf", "two\nlines", "not UTF-8: \udcff"]
HOSTILE = "-rf 'it' \"$(id)\" `id` *\n#SBATCH --hold\n#PBS -h\n\\é漢\udcff"


async def folder(place: Place) -> str:
    """A folder for one case."""
    path = f"{place.folder}/{secrets.token_hex(4)}"
    await place.disk.mkdir(path)
    return path


@needs("runs")
async def test_mv(place: Place):
    await move(place, HOSTILE)


@needs("fast")
@pytest.mark.parametrize("name", NAMES)
async def test_mv_of_any_name(place: Place, name: str):
    await move(place, name)


async def move(place: Place, name: str) -> None:
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
async def test_archive_round_trip(place: Place):
    await archive(place, "gzip")


@needs("fast")
@pytest.mark.parametrize("compression", ["none", "bzip2", "xz"])
async def test_archive_of_any_compression(place: Place, compression: Compression):
    await archive(place, compression)


async def archive(place: Place, compression: Compression) -> None:
    work = await folder(place)
    await place.disk.mkdir(f"{work}/it's")
    for name in ("a.txt", "b.dat"):
        await place.disk.write(f"{work}/it's/{name}", name)
    options = CompressOptions(compression, pattern=r".*\.txt")
    account, packed, target = place.account, f"{work}/an archive", f"{work}/out"
    transfer = await place.transfers.compress(f"{work}/it's", packed, soon(), account=account, options=options)
    await place.worked(transfer, "compressed")
    transfer = await place.transfers.extract(packed, target, soon(), account=account, compression=compression)
    await place.worked(transfer, "extracted")
    assert await place.disk.names(f"{target}/it's") == ["a.txt"]
    assert await place.disk.read(f"{target}/it's/a.txt") == "a.txt"


@needs("runs")
async def test_missing_source(place: Place):
    work = await folder(place)
    missing, target, account = f"{work}/missing", f"{work}/target", place.account
    transfers, reason = place.transfers, "No such file or directory"
    submitted = [
        await transfers.mv(missing, target, soon(), account=account),
        await transfers.cp(missing, target, soon(), account=account, dereference=False),
        await transfers.rm(missing, soon(), account=account),
    ]
    for transfer in submitted:
        await place.failed(transfer, reason)
    assert await place.disk.names(work) == []


def is_repeated(again: SubmittedTransfer, first: SubmittedTransfer) -> bool:
    """Whether both are the same job. The ids of their transfers differ in the times of the requests only."""
    same = is_same(again.transfer, first.transfer) if again.transfer and first.transfer else again == first
    return same and replace(again, transfer=first.transfer) == first


@needs("once")
@pytest.mark.timeout(400)
async def test_repeated_request_with_a_key(place: Place):
    work, key = await folder(place), secrets.token_hex(8)
    await place.disk.write(f"{work}/file", "content")
    move = partial(place.transfers.mv, f"{work}/file", f"{work}/new", account=place.account, key=key)
    first, again = [await when_certain(move) for _ in range(2)]
    assert is_repeated(again, first)
    await place.worked(first, "moved")
    assert is_repeated(await when_certain(move), first)
    with pytest.raises(KeyReused):
        await when_certain(partial(place.transfers.rm, f"{work}/new", account=place.account, key=key))
    assert await place.disk.names(work) == ["new"]


@needs("accounts")
async def test_unknown_account(place: Place):
    with pytest.raises(Invalid) as caught:
        await place.transfers.rm(f"{place.folder}/none", soon(), account="no-such-account")
    assert caught.value.refusal == "unknownAccount"


@needs("runs")
@pytest.mark.parametrize("account", ["a b", "x\n#SBATCH --wrap=id", "x" * 65])
async def test_invalid_accounts(place: Place, account: str):
    with pytest.raises(Invalid) as caught:
        await place.transfers.rm(f"{place.folder}/none", soon(), account=account)
    assert [field.name for field in caught.value.fields] == ["account"]


@needs("refuses_methods")
@pytest.mark.parametrize("method", ["streamer", "wormhole"])
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
