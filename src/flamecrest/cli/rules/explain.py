"""`flamecrest explain`: what is decided about a request, and by which rule."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flamecrest.cli.terminal import FAILED, fail, fail_for, load_configuration, require_server_extra

if TYPE_CHECKING:
    from flamecrest.server.settings import Settings

USAGE = 2  # exit status
MAX_TOKEN = 1024 * 1024  # characters that are read of a file with a token


def explain(
    verb: Annotated[str, typer.Argument(metavar="VERB", help="status, jobs:read, files:write, …")],
    cluster: Annotated[str, typer.Argument(metavar="CLUSTER")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="The path of a request about files.")] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the caller's access token. Default: standard input."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="Configuration file. Default: $FLAMECREST_CONFIG, else $YAML_CONFIG_FILE.",
        ),
    ] = None,
    job: Annotated[str, typer.Option(metavar="ID", help="The job of a request about one.")] = "",
    tree: Annotated[bool, typer.Option("--tree", help="The request concerns what lies below the path, too.")] = False,
) -> None:
    """Say what is decided about a request of a token, and by which rule. The token is validated as in a request.

    \b
    Exit status:
      0  the request is allowed
      1  it is denied, or the token is not valid
      2  the configuration is invalid, or the verb or the cluster is unknown

    \b
    Examples:
      flamecrest explain --token-file alice.jwt files:read daint /scratch/alice
      flamecrest explain jobs:submit daint --config gateway.yaml < alice.jwt
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    token = _token(token_file)
    settings = load_configuration(config)
    if not _say(settings, token, verb, cluster, (path,) if path else (), (job,) if job else (), tree=tree):
        raise typer.Exit(FAILED)


def _say(
    settings: Settings,
    token: str,
    verb: str,
    cluster: str,
    paths: tuple[str, ...],
    jobs: tuple[str, ...],
    *,
    tree: bool,
) -> bool:
    """Print what is decided, and return whether the request is allowed; print errors and exit."""
    with require_server_extra():
        from flamecrest.server.errors import GatewayError  # noqa: PLC0415 - not in the base install
        from flamecrest.server.settings import SettingsError  # noqa: PLC0415 - not in the base install

        from .deciding import Question, decide, described  # noqa: PLC0415 - not in the base install
    try:
        found = asyncio.run(decide(settings, token, Question(verb, cluster, paths, jobs, tree)))
    except ValueError as error:
        fail(str(error), USAGE)
    except SettingsError as error:
        fail_for([str(problem) for problem in error.problems])
    except GatewayError as error:
        fail(f"{error.public.removesuffix('.')}: {error.detail}" if error.detail else error.public)
    for line in described(found):
        typer.echo(line)
    return found.decision.allowed


def _token(file: Path | None) -> str:
    try:
        with sys.stdin if file is None else file.open(encoding="utf-8") as stream:
            token = stream.read(MAX_TOKEN).strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"the token cannot be read: {error}")
    return token.removeprefix("Bearer ").strip() or fail("there is no token: give its file with --token-file")
