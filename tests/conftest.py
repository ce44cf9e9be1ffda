"""Hypothesis profiles and fixtures for all tests."""

from __future__ import annotations

import gc
import os
import re
import sys
from asyncio import BaseEventLoop
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

import flamecrest.server

from . import thorough, worker_server

HERE = Path(__file__).parent
LIVE_TESTS = HERE / "live"
SERVER = str(Path(flamecrest.server.__file__).parent)
STEP = BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]  # one turn of the event loop, which calls all tasks

# Every run draws new examples. To look harder by hand: pytest --hypothesis-profile=thorough
# No deadline (200 ms by default) and no too_slow check: durations depend on the machine.
settings.register_profile("quick", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=2000)
settings.load_profile("quick")


# Imports and the collection make many objects that stay: the garbage collector would look at them again and again.
gc.disable()


LIVE = bool(os.environ.get("FLAMECREST_LIVE"))
if not LIVE:
    # HTTP clients load the authorities of the Web, which takes 20 ms each time, in every gateway. No test asks a server
    # that one of them has certified: here they load a single certificate, whose key is lost.
    os.environ["SSL_CERT_FILE"] = str(HERE / "authority.pem")


# What one worker runs, one test after another, as patterns of the tests' ids. The longest are first: they start first,
# so that no worker runs alone at the end. Other tests are divided by file, and the live tests of schedulers by adapter.
OWN_GATEWAYS = r"^tests/v2/(store/|test_(between_|large_faults|no_subsystem|node_transfers|pyfirecrest_schedulers))"
ONE_WORKER = {
    # its daemons are killed
    "the centre of trixie": r"\[live-trixie|^tests/live/(test_(slurm_daemons|private_jobs)|reliability/test_scheduler)",
    "accounts of logins": r"^tests/live/logins/",
    "wire": r"^tests/wire/",  # gateways that take seconds to start
} | ({} if LIVE else {"v2": rf"(?!{OWN_GATEWAYS})^tests/v2/"})
SANDBOXES = ("sandbox", "commands", "local")  # values of the parameters `place` and `api`
ADAPTER = re.compile(r"^tests/contract/(?:schedulers|transfer)/.*\[(live(-(sid|rest|hybrid|local|variables))*)")
SLOW = (
    OWN_GATEWAYS,
    r"^tests/contract/(schedulers|transfer)/",
    r"^tests/live/(test_(aiida|faults|once|states|large)|replacing/|reliability/)",
    r"^tests/v2/test_(hostile|large|pyfirecrest|job_life)",
    *(f"^tests/{folder}/" for folder in ("v2", "contract", "unit/ssh", "unit/cli", "unit/bench")),
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without live tests, their modules are not even imported. Recordings are thousands of files, and no tests."""
    if collection_path.name == "recorded":
        return True
    return True if collection_path == LIVE_TESTS and config.option.markexpr.startswith("not live") else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """Fork the workers of a run of all tests from a process that has imported all test modules."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    ignored = pytest_ignore_collect(LIVE_TESTS, config)
    modules = [path for path in sorted(HERE.rglob("test_*.py")) if not (ignored and LIVE_TESTS in path.parents)]
    names = [".".join(path.relative_to(HERE.parent).with_suffix("").parts) for path in modules]
    python = worker_server.starting_workers(names)
    for spec in specs:
        spec.python = python


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """With `--dist loadfile`, tests are divided by ONE_WORKER, and by file."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # xdist would start the files with the most tests first
    return _ByFileOrGroup(config, log)


class _ByFileOrGroup(LoadFileScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        if group := next((name for name, pattern in ONE_WORKER.items() if re.search(pattern, nodeid)), None):
            return group
        adapter = ADAPTER.search(nodeid)
        file: str = super()._split_scope(nodeid)
        return f"{file} {adapter[1]}" if adapter else file


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Live tests run over the live site, and by hand over the sandbox; on an xdist worker, what is slow comes first.

    Those of thorough.py are marked.
    """
    thorough.mark(items)
    for item in items:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if item.get_closest_marker("live") and params.get("place", params.get("api")) in SANDBOXES:
            item.add_marker(pytest.mark.exhaustive)
    if hasattr(config, "workerinput"):
        # only patterns for live tests look at parameters
        items.sort(key=lambda item: _place(item.nodeid if LIVE else item.nodeid.partition("::")[0]))


@cache
def _place(test: str) -> int:
    patterns = [*ONE_WORKER.values(), *SLOW]
    return next((n for n, pattern in enumerate(patterns) if re.search(pattern, test)), len(patterns))


def pytest_collection_finish() -> None:
    """Freeze the collected tests: they live to the end, so the garbage collector need not scan them."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show how tests failed that were run again (`--reruns`): a test that passes then has a fault as well."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.write_sep("_", f"FAILED AND RUN AGAIN: {report.nodeid}", yellow=True)
        report.toterminal(terminalreporter._tw)


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
        function.can_block_predicate = _outside_of_server_or(function.can_block_predicate)
        function.can_block_in("server/settings/loading.py", {"load"})  # settings are read before requests are served
        function.can_block_in("server/ssh/host_keys.py", {"_refresh"})  # a small local file, when it changed
        function.can_block_in("server/ssh/programs/perl.py", {"one_line"})  # two of our own files, once
        function.can_block_in("server/schedulers/local/program.py", {"source"})  # five of our own files, once
    guard.activate()
    try:
        yield
    finally:
        guard.deactivate()


def _outside_of_server_or(allowed: Callable[..., bool]) -> Callable[..., bool]:
    """Whether a call may block: none of flamecrest.server is on the stack below the event loop, or it is allowed.

    BlockBuster would decide the same, but takes ten times as long for each frame, and looks at those of pytest too.
    """

    def predicate(*args: Any, **kwargs: Any) -> bool:
        frame = sys._getframe(2)  # of the caller of BlockBuster's wrapper
        while frame is not None and frame.f_code is not STEP:
            if frame.f_code.co_filename.startswith(SERVER):
                return allowed(*args, **kwargs)
            frame = frame.f_back  # type: ignore[assignment]
        return True

    return predicate
