"""The commands `flamecrest stream send` and `flamecrest stream receive`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TransferSpeedColumn

from flamecrest.cli.terminal import fail, print_line
from flamecrest.server.transfer.programs.streams import Broken
from flamecrest.server.transfer.programs.websocket import WebSocket
from flamecrest.server.transfer.streamer.coordinates import Coordinates

from .connecting import Failure, Job, find_job, open_websocket
from .receiving import receive, receive_by_websocket
from .sending import Advance, send, send_by_websocket

VARIABLE = "FLAMECREST_COORDINATES"

stream = typer.Typer(no_args_is_help=True)
Given = Annotated[
    Path | None,
    typer.Option(
        "--coordinates",
        metavar="FILE",
        help="A file with the coordinates, or with the answer of the gateway that contains them; `-` is standard "
        f"input. Default: ${VARIABLE}.",
    ),
]
Streams = Annotated[int, typer.Option(min=1, max=64, help="Connections at the same time.")]
Wait = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait until the job listens.")]
Retry = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to try again after a lost connection.")]


@stream.command("send")
def send_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to send.")],
    coordinates: Given = None,
    streams: Streams = 4,
    wait: Wait = 600,
    retry: Retry = 120,
) -> None:
    """Send a file to the job of an upload.

    \b
    Examples:
      flamecrest stream send --coordinates upload.json data.tar
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    _run(
        _coordinates(coordinates),
        wait,
        lambda websocket, advance: send_by_websocket(websocket, file, advance),
        lambda job, advance: send(job, file, streams, retry, advance),
    )
    print_line("The file was sent and verified.")


@stream.command("receive")
def receive_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; an existing one is replaced.")],
    coordinates: Given = None,
    streams: Streams = 4,
    wait: Wait = 600,
    retry: Retry = 120,
) -> None:
    """Receive the file of a download. After an interruption, the same command goes on where it was.

    \b
    Examples:
      flamecrest stream receive --coordinates download.json data.tar
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    _run(
        _coordinates(coordinates),
        wait,
        lambda websocket, advance: receive_by_websocket(websocket, file, advance),
        lambda job, advance: receive(job, file, streams, retry, advance),
    )
    print_line("The file was received and verified.")


def _coordinates(path: Path | None) -> Coordinates:
    """The coordinates that the user has given, by a file, standard input or the environment: never as an argument."""
    try:
        if path is None:
            text = os.environ.get(VARIABLE, "")
        else:
            text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        if text.lstrip().startswith("{"):
            answer = json.loads(text)
            if "transferDirectives" not in answer and "message" in answer:
                fail(f"the gateway has refused the transfer: {answer['message']}")
            text = str(answer["transferDirectives"]["coordinates"])
        return Coordinates.decoded(text)
    except (OSError, ValueError, KeyError, TypeError):
        fail(f"there are no valid coordinates in {f'${VARIABLE}' if path is None else path}")


def _waiting() -> Callable[[], None]:
    said: list[bool] = []

    def say() -> None:
        if not said:
            said.append(True)
            print_line("Waiting until the job listens.")

    return say


def _run(
    found: Coordinates,
    wait: float,
    by_websocket: Callable[[WebSocket, Advance], None],
    by_job: Callable[[Job, Advance], None],
) -> None:
    """Connect to FirecREST's streamer, or to a job of ours if the coordinates have a certificate, and transfer."""
    try:
        with _progress() as advance:
            if found.certificate is None:
                websocket = open_websocket(found, wait, _waiting())
                with closing(websocket.stream):
                    by_websocket(websocket, advance)
            else:
                by_job(find_job(found, wait, _waiting()), advance)
    except (Failure, Broken) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))


@contextmanager
def _progress() -> Iterator[Advance]:
    """A line with the bytes so far on a terminal."""
    columns = (SpinnerColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=None)
        yield lambda count: shown.advance(task, count)
