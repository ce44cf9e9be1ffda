"""What the commands have in common: how they speak, how they end, and how they read the configuration."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from flamecrest.server.settings import Settings

FAILED = 1
UNUSABLE = 2  # the configuration can't be used


def tell(line: str, *, style: str = "", label: str = "") -> None:
    """One line on standard error; text is shown as it is, never as markup."""
    text = Text.assemble((f"{label}: ", style or "bold"), line) if label else Text(line, style=style)
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)


def fail(line: str, code: int = FAILED) -> NoReturn:
    """Say why, and end."""
    tell(line, label="error", style="bold red")
    raise typer.Exit(code)


@contextmanager
def server_extra() -> Iterator[None]:
    """Around the imports of the server's packages: a missing one ends the command with how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = error.name or ""
        if name.partition(".")[0] == "flamecrest":
            raise
        fail(f"this command needs the server's packages ({name} is missing): pip install 'flamecrest[server]'")


def configuration(path: Path | None) -> Settings:
    """The settings in a file and the environment; says every mistake and ends when they can't be used."""
    with server_extra():
        from flamecrest.server.settings import SettingsError, load  # noqa: PLC0415 - the base install has no server
    try:
        settings = load(path, os.environ)
    except SettingsError as error:
        problems = [str(problem) for problem in error.problems]
    else:
        problems = settings.unsupported()
    if not problems:
        return settings
    for problem in problems:
        tell(problem, label="error", style="bold red")
    count = len(problems)
    tell(f"{count} mistake{'s' if count > 1 else ''} in all")
    raise typer.Exit(UNUSABLE)


def warn(warnings: Iterable[str]) -> None:
    """Say what should be looked at."""
    for warning in warnings:
        tell(warning, label="warning", style="bold yellow")
