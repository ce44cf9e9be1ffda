"""Common parts of the commands: messages, exit statuses, loading of the configuration."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from flamecrest.server.settings import Settings

FAILED = 1
INVALID_CONFIGURATION = 2
STDERR = 2  # the last of the descriptors of the standard streams


def print_line(line: str, *, style: str = "", label: str = "") -> None:
    """Print one line to standard error; the text is not interpreted as markup.

    Nothing happens if it cannot be written: a gateway whose log is on a full disk is to serve nevertheless.
    """
    text = Text.assemble((f"{label}: ", style or "bold"), line) if label else Text(line, style=style)
    with suppress(OSError):
        Console(stderr=True, highlight=False).print(text, soft_wrap=True)


def open_standard_streams() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed, for nothing.

    Else the next socket would get such a number: what a program prints would go to it, and libuv aborts the process
    when it closes one.
    """
    opened = -1
    while opened <= STDERR:
        opened = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(opened, opened <= STDERR)
    os.close(opened)


def discard_unwritten() -> None:
    """Throw away what could not be written to standard output and error: at its end, Python would exit with 120."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed before the start
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fail(line: str, code: int = FAILED) -> NoReturn:
    """Print an error and exit."""
    print_line(line, label="error", style="bold red")
    raise typer.Exit(code)


def one_file(argument: Path | None, option: Path | None) -> Path | None:
    """The configuration file, which is given as an argument or with `--config`. Exits if two different ones are."""
    if argument is not None and option is not None and argument != option:
        fail(f"two configuration files are given: {argument} and {option}", INVALID_CONFIGURATION)
    return option if argument is None else argument


@contextmanager
def require_server_extra() -> Iterator[None]:
    """Context of imports of server packages: if one is missing, exit with the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = error.name or ""
        if name.partition(".")[0] == "flamecrest":
            raise
        fail(f"package {name} is missing; this command needs the server extra: pip install 'flamecrest[server]'")


def load_configuration(path: Path | None) -> Settings:
    """Load the settings from a file and the environment. Prints all warnings; prints all errors and exits."""
    with require_server_extra():
        from flamecrest.server.settings import (  # noqa: PLC0415 - the base install has no server
            SettingsError,
            load,
            warnings,
        )
    try:
        settings = load(path, os.environ)
    except SettingsError as error:
        fail_for([str(problem) for problem in error.problems])
    for warning in warnings(settings):
        print_line(warning, label="warning", style="bold yellow")
    return settings


def fail_for(problems: Sequence[str]) -> NoReturn:
    """Print the errors of a configuration, a line for each, and exit."""
    for problem in problems:
        print_line(problem, label="error", style="bold red")
    count = len(problems)
    print_line(f"{count} error{'s' if count > 1 else ''} in the configuration")
    raise typer.Exit(INVALID_CONFIGURATION)
