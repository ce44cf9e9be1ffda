"""`flamecrest demo`: a sandbox centre with a gateway on this machine, and a tour of the API.

All requests use HTTP and a token from the token endpoint. The gateway is `flamecrest serve` in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx
import typer

from flamecrest.cli.terminal import fail, require_server_extra

from .output import DemoError, DemoOutput
from .tour import TIMEOUT, Tour

if TYPE_CHECKING:
    from flamecrest.sandbox.centre import Centre

PORT = 8000
METRICS_PORT = 9464  # where `flamecrest top` looks without an argument


_ONCE = typer.Option("--once", help="Exit after the tour, with status 0 if every step succeeded.")
_PORT = typer.Option(
    min=1, max=65535, metavar="N", help=f"Port of the gateway. Default: {PORT}, or a free port if it is in use."
)
_FILES = typer.Option(min=1, max=10_000, metavar="N", help="Number of small files to upload and download.")
_STORE = typer.Option("--store", help="Add an S3 object store, through which pyfirecrest's large file goes.")


def demo(
    once: Annotated[bool, _ONCE] = False,
    port: Annotated[int | None, _PORT] = None,
    files: Annotated[int, _FILES] = 200,
    store: Annotated[bool, _STORE] = False,
) -> None:
    """Start a sandbox centre with a gateway on this machine, and run a tour of the API.

    The sandbox has a token issuer, an SSH server and a toy Slurm. A second cluster
    has no scheduler but Flamecrest's own.

    It runs until Ctrl-C; then all its files are removed.

    \b
    Exit status:
      0  stopped, or every step of the tour succeeded (--once)
      1  a step of the tour failed

    \b
    Examples:
      flamecrest demo
      flamecrest demo --once --files 1000
      flamecrest demo --store
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    where = _requested_port(port)
    if store:
        _require_store()
    with require_server_extra():
        from flamecrest.sandbox.centre import Centre  # noqa: PLC0415 - needs the server's packages
    try:
        centre = Centre(with_local=shutil.which("perl") is not None, with_store=store)
        asyncio.run(_until_stopped(_run(centre, DemoOutput(), where, files, once=once)))
    except DemoError as error:
        fail(str(error))
    except httpx.HTTPError as error:
        fail(f"no response from the gateway: {type(error).__name__} {error}")


def _require_store() -> None:
    """Exit unless there is what the object store and its mover jobs need."""
    if any(importlib.util.find_spec(name) is None for name in ("moto", "flask")):
        fail("--store needs the package moto: pip install 'moto[s3,server]'")
    if shutil.which("curl") is None:
        fail("--store needs the program curl")


def _requested_port(wanted: int | None) -> int:
    if wanted is None:
        return _free_port(PORT)
    if not _is_free(wanted):
        fail(f"port {wanted} on 127.0.0.1 is already in use: stop that program, or give another port with --port")
    return wanted


def _free_port(usual: int) -> int:
    """The usual port, or any one if that is in use."""
    if _is_free(usual):
        return usual
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


async def _until_stopped(work: Awaitable[None]) -> None:
    """Run the work until it ends, or until SIGINT, SIGTERM or SIGHUP."""
    task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise


async def _run(centre: Centre, show: DemoOutput, port: int, files: int, *, once: bool) -> None:
    show.title("Flamecrest: one HTTP API in front of every HPC cluster")
    began = time.perf_counter()
    async with centre:
        show.step("centre", time.perf_counter() - began, _parts(centre))
        metrics = _free_port(METRICS_PORT)
        async with gateway(centre, port, metrics, show) as url:
            await Tour(centre, show, url).take(files)
            if not once:
                show.instructions(centre, url, f"http://127.0.0.1:{metrics}")
                await asyncio.Event().wait()
    show.end()


def _parts(centre: Centre) -> str:
    parts = ["token issuer", "SSH server", *([] if centre.store is None else ["object store"])]
    return f"{', '.join(parts)} and toy Slurm in {centre.root}"


@contextlib.asynccontextmanager
async def gateway(centre: Centre, port: int, metrics: int, show: DemoOutput) -> AsyncIterator[str]:
    """Run `flamecrest serve` with the centre's configuration; yields its URL when it responds."""
    services = {"ssh": {"timeout": 5}, "scheduler": {"timeout": 5}, "filesystem": {"timeout": 5}}
    config = centre.write_config(probing={"interval_check": 30, "services": services})
    with config.open("a") as text:
        text.write("transfers: {part_size: 2097152}\n")  # smaller than usual: the progress is seen
        text.write(f"metrics: {{port: {metrics}, users: true}}\n")
    code = "from flamecrest.cli.main import main; main()"
    argv = ["serve", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    log = centre.root / "gateway.log"
    # settings in the environment are meant for another gateway
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("FLAMECREST")}
    began = time.perf_counter()
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, *argv, env=environment, stdout=output, stderr=output
        )
    try:
        url = f"http://127.0.0.1:{port}"
        with show.waiting("starting the gateway"):
            await _wait_until_ready(url, process)
        show.step("gateway", time.perf_counter() - began, f"{url}, {_memory(process.pid)} MiB")
        yield url
    except DemoError as error:
        last = log.read_text(errors="replace").splitlines()[-5:]
        raise DemoError("\n".join([str(error), *(f"gateway: {line}" for line in last)])) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _wait_until_ready(url: str, process: asyncio.subprocess.Process) -> None:
    deadline = time.monotonic() + TIMEOUT
    async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
        while time.monotonic() < deadline and process.returncode is None:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(f"{url}/status/liveness")).status_code == httpx.codes.OK:
                    return
            await asyncio.sleep(0.05)
    raise DemoError("the gateway did not start; the end of its log:")


def _memory(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024**2
    return 0
