"""`flamecrest check`: validate a configuration and, with `--connect`, the connections to all configured services."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .terminal import FAILED, fail, fail_for, load_configuration, one_file, print_line, require_server_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flamecrest.server.settings import Settings

    from .checks.running import CheckResult


def check(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Configuration file. Default: $FLAMECREST_CONFIG, else $YAML_CONFIG_FILE."),
    ] = None,
    option: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="The same as the argument FILE.")
    ] = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Also connect to every cluster, token issuer and object store.")
    ] = False,
    user: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --connect: the user to log in as. Default: the first user with a key."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, metavar="SECONDS", help="With --connect: timeout of each check.")
    ] = 15,
) -> None:
    """Validate a configuration without starting the gateway.

    All errors and warnings are printed.

    \b
    Exit status:
      0  the configuration is valid
      1  a check of --connect failed
      2  the configuration is invalid

    \b
    Examples:
      flamecrest check gateway.yaml
      flamecrest check --connect --user alice gateway.yaml
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    settings = load_configuration(one_file(config, option))
    require_usable_rules(settings)
    for warning in _unreadable_keys(settings):
        print_line(warning, label="warning", style="bold yellow")
    typer.echo(summary(settings))
    if note := unprobed(settings):
        print_line(note, label="note")
    if not connect:
        return
    results = asyncio.run(_connect(settings, user or _first_user(settings), timeout))
    show(results)
    if not all(result.ok for result in results):
        raise typer.Exit(FAILED)


def require_usable_rules(settings: Settings) -> None:
    """Compile the rules of authorization and the conditions of limits; print what is wrong with them and exit."""
    with require_server_extra():
        from flamecrest.server.settings import SettingsError  # noqa: PLC0415 - not in the base install
        from flamecrest.server.wiring.authorization import make_rules  # noqa: PLC0415 - not in the base install
        from flamecrest.server.wiring.limits import allowances  # noqa: PLC0415 - not in the base install
    authorization, limits = settings.auth.authorization, settings.limits
    attempts: list[Callable[[], object]] = []
    if authorization is not None:
        attempts.append(partial(make_rules, authorization))
    if limits is not None:
        attempts.append(partial(allowances, limits))
    problems: list[str] = []
    for attempt in attempts:
        try:
            attempt()
        except SettingsError as error:
            problems += map(str, error.problems)
    if problems:
        fail_for(problems)


def _unreadable_keys(settings: Settings) -> list[str]:
    with require_server_extra():
        from flamecrest.server.wiring.credentials import unreadable_keys  # noqa: PLC0415 - not in the base install
    return unreadable_keys(settings)


def summary(settings: Settings) -> str:
    """One line about a valid configuration."""
    names = ", ".join(cluster.name for cluster in settings.clusters)
    count = len(settings.clusters)
    clusters = f"{count} cluster{'' if count == 1 else 's'}{f' ({names})' if names else ''}"
    return f"The configuration is valid: {clusters}."


def unprobed(settings: Settings) -> str:
    """A note about the clusters of which nothing is probed; empty if there are none."""
    names = [cluster.name for cluster in settings.clusters if not cluster.probing.timeouts()]
    if not names:
        return ""
    return (
        f"nothing is probed of {', '.join(names)}: only users' requests notice what is down, and GET /status/systems "
        "shows no health. Set probing and service_account of the cluster"
    )


def _first_user(settings: Settings) -> str:
    sources = (settings.ssh_credentials, *(cluster.ssh_credentials for cluster in settings.clusters))
    keys = [key for source in sources for key in getattr(source, "keys", None) or ()]
    if not keys:
        fail("no user has a key in ssh_credentials: give the user to log in as with --user")
    return str(keys[0])


async def _connect(settings: Settings, user: str, seconds: float) -> list[CheckResult]:
    with require_server_extra():
        from flamecrest.server.wiring.gateway import open_gateway  # noqa: PLC0415 - not in the base install

        from .connect import (  # noqa: PLC0415 - not in the base install
            check_connections,
            check_logins,
            each_login_node,
            for_checks,
        )
    logging.getLogger("flamecrest").addHandler(logging.NullHandler())  # the table has what would be logged
    async with open_gateway(for_checks(settings)) as gateway:
        found = await check_connections(gateway, settings, user, seconds)
    for nodes in each_login_node(for_checks(settings)):
        async with open_gateway(nodes) as gateway:
            found += await check_logins(gateway, nodes, user, seconds)
    subjects = [result.subject.partition(": ")[0] for result in found]  # those of a cluster begin with its name
    return sorted(found, key=lambda result: subjects.index(result.subject.partition(": ")[0]))


def show(results: Sequence[CheckResult]) -> None:
    """Print the results as a table, and below it the lines for known_hosts, which must not be wrapped."""
    with require_server_extra():
        from flamecrest.server.ssh.host_keys import KNOWN_HOSTS_LINE  # noqa: PLC0415 - not in the base install
    lines: list[str] = []
    table = Table(title="Connections", title_justify="left")
    for heading in ("service", "answers", "time", "result"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "time" else "left")
    for result in results:
        answer = Text("yes", "green") if result.ok else Text("no", "bold red")
        message, mark, line = result.message.partition(KNOWN_HOSTS_LINE)
        if mark:
            message = f"{message.rstrip()} The line for known_hosts is below."
            lines.append(line.strip())
        text = message if result.ok else f"{message}\n{result.advice}".strip()
        table.add_row(Text(result.subject), answer, f"{result.seconds * 1000:.0f} ms", Text(text))
    width = None if os.isatty(1) or os.environ.get("COLUMNS") else 160  # a pipe has no width
    Console(width=width, highlight=False).print(table)
    if lines:
        typer.echo("Lines for known_hosts (compare their keys with those of the centre first):")
    for line in dict.fromkeys(lines):
        typer.echo(line)
