"""A stock tus client while servers are killed at random points: the file equals its source or does not exist.

FLAMECREST_KILLS sets the number of kills (default 21); FLAMECREST_SEED repeats a run.
"""

from __future__ import annotations

import io
import os
import random
import threading
import time
from collections.abc import Iterator

import pytest
import requests
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed

from tests.live.site import Site

from .tus_world import PATIENCE, World, live_world, sandbox_world

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(300)]

KILLS = int(os.environ.get("FLAMECREST_KILLS", "21"))
SIZE = 6_000_011


@pytest.fixture(scope="module", params=["sandbox", pytest.param("live", marks=pytest.mark.live)])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("tus")
    if request.param == "sandbox":
        with sandbox_world(root) as made:
            yield made
        return
    site = Site.from_environment()
    if any(name.startswith("FLAMECREST_LIVE_") for name in os.environ):
        pytest.skip("another site than tests/live/centre")
    if reason := site.why_not():
        (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)(reason)
    with live_world(root, site) as made:
        yield made


class Client(threading.Thread):
    """A client program: tuspy, with a loop that resumes after every error."""

    def __init__(self, place: World, source: bytes, chunk: int, *, checksum: bool) -> None:
        super().__init__()
        headers = place.headers
        self.uploader = TusClient(place.url, headers=headers).uploader(
            file_stream=io.BytesIO(source),
            chunk_size=chunk,
            metadata={"path": f"{place.folder}/file"},
            upload_checksum=checksum,
        )
        self.broken = 0
        self.failed: BaseException | None = None

    @property
    def created(self) -> bool:
        url: str | None = self.uploader.url  # tuspy declares it as one always
        return url is not None

    def run(self) -> None:
        best, since = -1, time.monotonic()
        try:
            while True:
                try:
                    if self.created:
                        self.uploader.offset = self.uploader.get_offset()
                    self.uploader.upload()
                except (TusUploadFailed, TusCommunicationError, requests.RequestException):
                    self.broken += 1
                    if self.uploader.offset > best:
                        best, since = self.uploader.offset, time.monotonic()
                    if time.monotonic() - since > PATIENCE:  # without sending more bytes
                        raise
                    time.sleep(0.2)
                else:
                    return
        except BaseException as error:  # noqa: BLE001 -- told to the test
            self.failed = error


def upload(place: World, rng: random.Random, faults: list[str]) -> int:
    """Upload one file while faults happen; return the number of injected faults."""
    source = rng.randbytes(SIZE)
    target = place.folder / "file"
    old = target.read_bytes() if target.exists() else None
    client = Client(place, source, rng.choice([400_000, 2_000_000, SIZE]), checksum=rng.random() < 0.3)
    client.start()
    happened = 0
    for fault in faults:
        until = place.line.carried + rng.randrange(1, SIZE // 3)
        while client.is_alive() and place.line.carried < until:
            # at all times the old or the new file exists
            if not (target.exists() and target.stat().st_size == SIZE):
                assert (target.read_bytes() if target.exists() else None) == old
            time.sleep(0.002)
        if not client.is_alive():
            break
        getattr(place, fault)()
        happened += 1
    client.join(PATIENCE + 30)
    assert not client.is_alive()
    assert client.failed is None, client.failed
    assert target.read_bytes() == source
    assert client.uploader.get_offset() == SIZE
    return happened


@pytest.mark.timeout(180 + 8 * KILLS)
@pytest.mark.parametrize("faults", [["cut"], ["drop"], ["crash"], ["cut", "drop", "crash"]], ids="-".join)
def test_upload_survives_random_kills(place: World, faults: list[str]) -> None:
    seed = int(os.environ.get("FLAMECREST_SEED") or random.randrange(10**9))
    print("FLAMECREST_SEED", seed)
    rng = random.Random(seed)
    wanted = max(1, KILLS // 4 + 1)
    happened = 0
    while happened < wanted:
        happened += upload(place, rng, [rng.choice(faults) for _ in range(min(3, wanted - happened))])
    assert [path.name for path in place.folder.iterdir()] == ["file"]
