"""A table of expected decisions: a YAML file beside the rules, a row for each decision."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

MAX_SHOWN = 10  # errors of a table


class Expectation(BaseModel):
    """A row: a caller, a request, and what is expected. `path` is short for `paths` with one path."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    user: str
    subject: str = ""
    issuer: str = ""
    client: str = ""
    claims: dict[str, Any] = Field(default_factory=dict)
    verb: Literal["status", "jobs:read", "jobs:submit", "files:read", "files:write", "transfer"]
    cluster: str
    paths: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    job: str | None = None
    tree: bool = False
    at: datetime | None = None
    expect: Literal["allow", "deny"]
    rule: str | None = None


def read_table(file: Path) -> Sequence[Expectation]:
    """The rows of a file: a list, or a mapping with the key `decisions`. Raises ValueError."""
    try:
        found = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise ValueError(f"is no valid YAML: {error}") from None
    rows = found.get("decisions") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("has no list of decisions, each with `user`, `verb`, `cluster` and `expect`")
    try:
        return TypeAdapter(tuple[Expectation, ...]).validate_python([_row(row) for row in rows])
    except ValidationError as error:
        lines = [f"row {one['loc'][0] + 1}: {one['loc'][-1]}: {one['msg']}" for one in error.errors()]  # type: ignore[operator]
        raise ValueError("; ".join(lines[:MAX_SHOWN])) from None


def _row(given: dict[str, Any]) -> dict[str, Any]:
    row = {**given}
    if "path" in row:
        row["paths"] = [row.pop("path")]
    if isinstance(row.get("at"), datetime) and row["at"].tzinfo is None:
        row["at"] = row["at"].replace(tzinfo=UTC)
    return row
