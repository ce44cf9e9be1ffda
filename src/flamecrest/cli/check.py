"""`flamecrest check`: what is wrong with a configuration, and with `--connect` what of it answers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .terminal import FAILED, configuration, fail, server_extra

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.server.settings import Settings

    from .connect import Finding


def check(
    config: Annotated[
        Path | None,
        typer.Argument(help="The configuration file. Default: what FLAMECREST_CONFIG or YAML_CONFIG_FILE names."),
    ] = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Also try every cluster, issuer and store, and show what answered.")
    ] = False,
    user: Annotated[
        str | None, typer.Option(help="With --connect: log in as this user. Default: the first one with a key.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, help="With --connect: how many seconds each one has to answer.")
    ] = 15,
) -> None:
    """Say what `serve` would say to a configuration, without starting.

    Ends with 2 when the configuration can't be used, with 1 when something that was tried did not answer.
    """
    settings = configuration(config)

    typer.echo(summary(settings))
    if not connect:
        return
    findings = asyncio.run(_connect(settings, user or _first_user(settings), timeout))
    show(findings)
    if not all(finding.answered for finding in findings):
        raise typer.Exit(FAILED)


def summary(settings: Settings) -> str:
    """What the configuration holds, in one line."""
    names = ", ".join(cluster.name for cluster in settings.clusters)
    count = len(settings.clusters)
    clusters = f"{count} cluster{'' if count == 1 else 's'}{f' ({names})' if names else ''}"
    return f"The configuration can be used: {clusters}."


def _first_user(settings: Settings) -> str:
    keys = getattr(settings.ssh_credentials, "keys", None)
    if not keys:
        fail("there is no user with a key to connect as: name one with --user")
    return str(next(iter(keys)))


async def _connect(settings: Settings, user: str, seconds: float) -> list[Finding]:
    with server_extra():
        from flamecrest.server.wiring.gateway import open_gateway  # noqa: PLC0415 - not in the base install

        from .connect import survey, unwatched  # noqa: PLC0415 - not in the base install
    async with open_gateway(unwatched(settings)) as gateway:
        return await survey(gateway, settings, user, seconds)


def show(findings: Sequence[Finding]) -> None:
    """The findings as a table: what, whether it answered, in how long, and what to do."""
    table = Table(title="What answered", title_justify="left")
    for heading in ("what", "answered", "time", "what to do"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "time" else "left")
    for finding in findings:
        answer = Text("yes", "green") if finding.answered else Text("no", "bold red")
        told = finding.said if finding.answered else f"{finding.said}\n{finding.advice}".strip()
        table.add_row(Text(finding.what), answer, f"{finding.seconds * 1000:.0f} ms", Text(told))
    width = None if os.isatty(1) else 160  # a pipe has no width: don't cut what is told
    Console(width=width, highlight=False).print(table)
