"""`flamecrest rules test`: a table of expected decisions, compared with what the rules of a configuration decide."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flamecrest.cli.terminal import FAILED, fail, fail_for, load_configuration, require_server_extra

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flamecrest.server.auth.authorization.by_rules import RulesAuthorizer
    from flamecrest.server.auth.port import AccessRequest
    from flamecrest.server.settings import Settings

    from .expectations import Expectation

rules = typer.Typer(no_args_is_help=True)


@rules.callback()
def rules_command() -> None:
    """Work with the claim rules of a configuration."""


@rules.command("test")
def check_table(
    table: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file with the expected decisions.")],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="Configuration file. Default: $FLAMECREST_CONFIG, else $YAML_CONFIG_FILE.",
        ),
    ] = None,
) -> None:
    """Compare a table of expected decisions with what the claim rules decide. OpenFGA is not asked.

    \b
    Exit status:
      0  all decisions are as expected
      1  some are not
      2  the configuration or the table is invalid

    \b
    Examples:
      flamecrest rules test expected.yaml --config gateway.yaml
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    settings = load_configuration(config)
    expected = _read(table)
    clock = Clock()
    authorizer = _rules_of(settings, clock)
    wrong = [line for number, one in enumerate(expected, 1) for line in differences(number, one, authorizer, clock)]
    for line in wrong:
        typer.echo(line)
    typer.echo(f"{len(expected)} decisions, {len(wrong)} not as expected")
    if wrong:
        raise typer.Exit(FAILED)


class Clock:
    """The time that a row of the table asks for."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def differences(number: int, one: Expectation, authorizer: RulesAuthorizer, clock: Clock) -> Iterator[str]:
    """A line if the decision about a row is not as expected."""
    clock.now = one.at or datetime.now(UTC)
    decision = authorizer.judge(_request(one))
    found = "allow" if decision.allowed else "deny"
    if found != one.expect or (one.rule is not None and one.rule != decision.rule):
        wanted = one.expect if one.rule is None else f"{one.expect} by {one.rule}"
        name = f" ({one.name})" if one.name else ""
        reason = f": {decision.reason}" if decision.reason else ""
        yield f"{number}{name}: expected {wanted}, found {found} by {decision.rule}{reason}"


def _request(one: Expectation) -> AccessRequest:
    from flamecrest.server.auth.port import AccessRequest, Identity, Verb  # noqa: PLC0415 - not in the base install

    identity = Identity(one.user, one.subject, one.issuer, one.client, claims=one.claims)
    jobs = () if one.job is None else (one.job,)
    return AccessRequest(identity, Verb(one.verb), one.cluster, one.paths, one.sources, jobs, one.tree)


def _rules_of(settings: Settings, clock: Clock) -> RulesAuthorizer:
    with require_server_extra():
        from flamecrest.server.settings import SettingsError  # noqa: PLC0415 - not in the base install
        from flamecrest.server.wiring.authorization import make_rules  # noqa: PLC0415 - not in the base install
    authorization = settings.auth.authorization
    try:
        found = None if authorization is None else make_rules(authorization, clock)
    except SettingsError as error:
        fail_for([str(problem) for problem in error.problems])
    return found or fail("the configuration has no rules (auth.authorization.rules)", 2)


def _read(table: Path) -> Sequence[Expectation]:
    with require_server_extra():
        from .expectations import read_table  # noqa: PLC0415 - not in the base install
    try:
        return read_table(table)
    except ValueError as error:
        fail(f"{table}: {error}", 2)
