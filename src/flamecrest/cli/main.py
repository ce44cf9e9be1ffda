"""The `flamecrest` command and its list of subcommands. Each imports the server's packages only when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import flamecrest

from .audit import audit
from .authority import authority
from .check import check
from .demo import demo
from .rules.explain import explain
from .rules.table import rules
from .serve import serve
from .stream.commands import stream
from .terminal import open_standard_streams, print_line, require_server_extra
from .top.command import top

app = typer.Typer(
    name="flamecrest",
    help="One HTTP API in front of every HPC cluster of a centre; speaks FirecREST v2.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"flamecrest {flamecrest.__version__}")
        raise typer.Exit


@app.callback()
def flamecrest_command(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """One HTTP API in front of every HPC cluster of a centre; speaks FirecREST v2."""


def settings_doc(
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write to this file instead of standard output.")
    ] = None,
) -> None:
    """Print the reference of all settings as Markdown.

    \b
    Examples:
      flamecrest settings-doc | less
      flamecrest settings-doc --write docs/settings.md
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    with require_server_extra():
        from . import settings_doc as page  # noqa: PLC0415 - needs the server's packages
    if write is None:
        typer.echo(page.render(), nl=False)
    else:
        page.write(write)
        print_line(f"wrote {write}")


app.command()(serve)
app.command()(check)
app.command()(explain)
app.add_typer(rules, name="rules", help="Work with the claim rules of a configuration.")
app.command()(demo)
app.command()(top)
app.command("settings-doc")(settings_doc)
app.add_typer(authority, name="ca", help="Set up the gateway's own SSH certificate authority.")
app.add_typer(audit, name="audit", help="Read audit logs.")
app.add_typer(stream, name="stream", help="Send or receive a file of a transfer by the streamer.")


def main() -> None:
    """Run the command line."""
    open_standard_streams()
    app()
