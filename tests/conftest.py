"""Hypothesis profiles and fixtures for all tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

# Every run draws new examples. To look harder by hand: pytest --hypothesis-profile=thorough
# No deadline (200 ms by default) and no too_slow check: durations depend on the machine.
settings.register_profile("quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=2000)
settings.load_profile("quick")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """With `--dist loadfile`, a file is run by one worker; so is the whole of tests/wire, for its gateways."""
    return _ByFileOrServers(config, log) if config.getoption("dist") == "loadfile" else None


class _ByFileOrServers(LoadFileScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return "tests/wire" if scope.startswith("tests/wire/") else scope


def pytest_collection_finish() -> None:
    """Freeze the collected tests: they live to the end, so the garbage collector need not scan them."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def never_blocked() -> Iterator[None]:
    """A call in flamecrest.server that blocks the event loop (file, socket, sleep) fails the test."""
    guard = BlockBuster(scanned_modules="flamecrest.server")
    del guard.functions["io.TextIOWrapper.write"]  # log records are written synchronously
    for function in guard.functions.values():
        function.can_block_in("server/settings/loading.py", {"load"})  # settings are read before requests are served
        function.can_block_in("server/ssh/host_keys.py", {"_refresh"})  # a small local file, when it changed
        function.can_block_in("server/ssh/programs/perl.py", {"one_line"})  # two of our own files, once
    guard.activate()
    try:
        yield
    finally:
        guard.deactivate()
