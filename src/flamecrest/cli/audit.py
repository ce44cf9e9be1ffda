"""`flamecrest audit verify`: whether lines of the audit log are missing or were changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .terminal import FAILED, fail, print_line, require_server_extra

if TYPE_CHECKING:
    from flamecrest.server.audit.chain import Report

SHOWN = 20  # problems

audit = typer.Typer(no_args_is_help=True)


@audit.callback()
def audit_command() -> None:
    """Read audit logs."""


@audit.command()
def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Audit logs, the oldest first.")],
    key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the key of the hashes (`audit.key`).")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Older files were removed: chains may begin in their middle.")
    ] = False,
    expect: Annotated[
        str | None, typer.Option(metavar="HASH", help="A hash that an earlier run has printed, and that must be there.")
    ] = None,
) -> None:
    """Check that no line of an audit log is missing or was changed.

    Prints the number of records and the hash of the last line. Keep that hash elsewhere: with --expect, a later run
    finds out whether the end of the log was cut off.

    \b
    Exit status:
      0  all lines are there and unchanged
      1  lines are missing or were changed

    \b
    Examples:
      flamecrest audit verify /var/log/flamecrest/audit.jsonl
      flamecrest audit verify --key-file /run/secrets/audit_key audit.jsonl.* audit.jsonl
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    report = _checked(files, key_file, expect, partial=partial)
    if report.other_hashes and not report.records:
        fail(_wrong_key(report.other_hashes, key_file))
    _show(report)


def _checked(files: Sequence[Path], key_file: Path | None, expect: str | None, *, partial: bool) -> Report:
    """What is found in the files; one that cannot be read is an error."""
    with require_server_extra():
        from flamecrest.server.audit import chain  # noqa: PLC0415 - not in the base install
    found = expect is None

    def lines() -> Iterator[tuple[str, bytes]]:
        nonlocal found
        for path in files:
            with path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    found = found or chain.hash_of(line) == expect
                    yield f"{path}:{number}", line

    try:
        key = b"" if key_file is None else key_file.read_text("utf-8-sig").strip().encode()
        report = chain.verify(lines(), key, partial=partial)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    if not found:
        report.problems.append(f"no line has the hash {expect}: lines were cut off or changed")
    return report


def _wrong_key(lines: int, key_file: Path | None) -> str:
    """The error if not a single line has the hash that it should have: then it is the key that differs."""
    reason = (
        "the log has a key (`audit.key`): give its file with --key-file"
        if key_file is None
        else f"{key_file} has another key than the log (`audit.key`)"
    )
    return f"the hash of all {lines} lines differs: perhaps {reason}. Otherwise all lines were changed"


def _show(report: Report) -> None:
    for note in report.notes:
        print_line(note, label="note")
    for problem in report.problems[:SHOWN]:
        print_line(problem, label="error", style="bold red")
    if report.problems:
        count = len(report.problems)
        if count > SHOWN:
            print_line(f"{count - SHOWN} more", label="error", style="bold red")
        print_line(f"{_counted(count, 'problem')} in {_counted(report.lines, 'line')}")
        raise typer.Exit(FAILED)
    found = f"{_counted(report.records, 'record')} in {_counted(len(report.chains), 'chain')}"
    typer.echo(f"{found}, none missing or changed; last: {report.last}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
