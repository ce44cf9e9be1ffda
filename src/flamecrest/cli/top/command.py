"""`flamecrest top`: the command."""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live

from flamecrest.cli.terminal import fail, require_server_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .reading import Reading

DEFAULT_URL = "http://127.0.0.1:9464"
FIRST = 0.5  # seconds until the first view, at most
HINT = "q quits"
WIDE = 10_000  # characters of a line that is not for a terminal


_URLS = typer.Argument(metavar="URL", help=f"Where each replica serves its metrics. Default: {DEFAULT_URL}.")
_TOKEN_FILE = typer.Option(metavar="FILE", help="File with the token of the metrics (`metrics.token`).")
_INTERVAL = typer.Option(min=0.1, metavar="SECONDS", help="Time between two readings.")
_TIMEOUT = typer.Option(min=0.1, metavar="SECONDS", help="Time for a replica to answer.")
_ONCE = typer.Option("--once", help="Print the view of one interval and exit.")


def top(
    urls: Annotated[list[str] | None, _URLS] = None,
    token_file: Annotated[Path | None, _TOKEN_FILE] = None,
    interval: Annotated[float, _INTERVAL] = 2.0,
    timeout: Annotated[float, _TIMEOUT] = 5.0,
    once: Annotated[bool, _ONCE] = False,
) -> None:
    """Show what running gateways do: requests, times, SSH connections, the scheduler's questions, users.

    The gateways need `metrics` in their configuration; they show users with `metrics.users: true`.

    \b
    Exit status:
      0  ended by q or Ctrl-C, or printed once
      1  with --once: no replica has answered
      2  standard output is not a terminal, or a URL is none

    \b
    Examples:
      flamecrest top
      flamecrest top --once --interval 10
      flamecrest top http://gw1:9464 http://gw2:9464 --token-file /run/secrets/metrics_token
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    with require_server_extra():
        from .reading import read_all  # noqa: PLC0415 - not in the base install
    addresses, token = [_address(url) for url in urls or [DEFAULT_URL]], _token(token_file)
    read = partial(read_all, addresses, token, timeout)
    if once:
        _print_once(read, interval)
    elif not os.isatty(1):
        fail("standard output is not a terminal: --once prints the view of one interval", 2)
    else:
        with suppress(KeyboardInterrupt):
            _watch(read, interval)


def _print_once(read: Callable[[], list[Reading]], interval: float) -> None:
    from .screen import View  # noqa: PLC0415 - not in the base install

    before = read()
    time.sleep(interval)
    after = read()
    width = None if os.isatty(1) or os.environ.get("COLUMNS") else WIDE  # a pipe has no width: nothing is left out
    Console(width=width, highlight=False).print(View(before, after))
    if all(reading.problem is not None for reading in after):
        raise typer.Exit(1)


def _watch(read: Callable[[], list[Reading]], interval: float) -> None:
    from .screen import View  # noqa: PLC0415 - not in the base install

    with Live("reading …", screen=True, auto_refresh=False) as live, _keys() as pressed:
        before, pause = read(), min(interval, FIRST)
        while not pressed(pause):
            after = read()
            live.update(View(before, after, HINT if os.isatty(0) else ""), refresh=True)
            before, pause = after, interval


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """A function that waits for seconds, or until `q` is pressed (then True). Keys are not shown on the screen."""
    if not os.isatty(0):
        yield _waits
        return
    before = termios.tcgetattr(0)
    try:
        tty.setcbreak(0)
        yield _quits
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _waits(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _quits(seconds: float) -> bool:
    until = time.monotonic() + seconds
    while select.select([0], [], [], max(0.0, until - time.monotonic()))[0]:
        pressed = os.read(0, 64)
        if not pressed or b"q" in pressed.lower():  # nothing: the terminal is gone
            return True
    return False


def _address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        fail(f"{url} is not a URL: give one such as {DEFAULT_URL}", 2)
    return url.rstrip("/").removesuffix("/metrics")


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        token = path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}")
    if not token.isascii() or not token.isprintable():
        fail(f"{path} does not contain a token")
    return token
