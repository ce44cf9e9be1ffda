"""The guard of tests/conftest.py finds calls that block the event loop, wherever they come from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError

import flamecrest.server

SERVER = Path(flamecrest.server.__file__).parent


def called_in(path: Path, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """A function whose code is of a file, and that calls another one."""
    names: dict[str, Any] = {"function": function, "args": args}
    exec(compile("def call():\n    return function(*args)", str(path), "exec"), names)
    found: Callable[[], Any] = names["call"]
    return found


@pytest.mark.anyio
async def test_a_blocking_call_of_the_server_fails() -> None:
    below = called_in(Path("/elsewhere/library.py"), time.sleep, 0)
    with pytest.raises(BlockingError):
        called_in(SERVER / "some.py", below)()


@pytest.mark.anyio
async def test_other_calls_may_block() -> None:
    called_in(Path("/elsewhere/library.py"), time.sleep, 0)()
    await asyncio.to_thread(called_in(SERVER / "some.py", time.sleep, 0))
