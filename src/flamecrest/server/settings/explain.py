"""From pydantic's validation errors to problems with source locations, messages and hints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticUndefined

from .problems import InvalidSetting, Problem
from .section import Section
from .shape import Loc, ShapedDocument, ValueLocation, one_of

_NUMBER = "must be a whole number"
_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "is missing",
    "string_type": lambda _: "must be a string",
    "int_type": lambda _: _NUMBER,
    "int_parsing": lambda _: _NUMBER,
    "int_parsing_size": lambda _: "is too large",
    "int_from_float": lambda _: _NUMBER,
    "float_type": lambda _: "must be a number",
    "float_parsing": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "tuple_type": lambda _: "must be a list",
    "list_type": lambda _: "must be a list",
    "mapping_type": lambda _: "must be a mapping",
    "dict_type": lambda _: "must be a mapping",
    "model_type": lambda _: "must be a mapping",
    "model_attributes_type": lambda _: "must be a mapping",
    "path_type": lambda _: "must be a path",
    "greater_than": lambda ctx: f"must be more than {_plain(ctx['gt'])}",
    "greater_than_equal": lambda ctx: f"must be at least {_plain(ctx['ge'])}",
    "less_than_equal": lambda ctx: f"must be at most {_plain(ctx['le'])}",
    "too_long": lambda ctx: f"must have {ctx['max_length']} items",
    "literal_error": lambda _: "is unknown",
    "union_tag_not_found": lambda _: "must be a mapping with a type",
    "extra_forbidden": lambda _: "is not a setting",
}


def explain(error: ValidationError, reading: ShapedDocument) -> list[Problem]:
    """The problems of a validation error, with the locations of the values in the document."""
    found: list[Problem] = []
    for detail in error.errors(include_url=False, include_input=False):
        path = _path(detail["loc"], reading)
        if any(path[: len(broken)] == broken for broken in reading.broken):
            continue
        mistake = detail.get("ctx", {}).get("error")
        if isinstance(mistake, InvalidSetting) and mistake.problems:
            found += mistake.problems
        else:
            found.append(_problem(detail, path, reading))
    return found


def _path(loc: Loc, reading: ShapedDocument) -> Loc:
    """Pydantic's location without the names of variants. Its last part may be missing in the document."""
    path: Loc = ()
    for at, part in enumerate(loc):
        longer = (*path, part)
        if longer in reading.locations or longer in reading.broken:
            path = longer
        elif at == len(loc) - 1 and _field(reading.locations.get(path), part):
            return longer
    return path


def _field(spot: ValueLocation | None, name: str | int) -> bool:
    return spot is not None and spot.section is not None and name in spot.section.model_fields


def _problem(detail: ErrorDetails, path: Loc, reading: ShapedDocument) -> Problem:
    spot = reading.locations.get(path)
    owner, name = _field_of(path, reading)
    kind, context = detail["type"], detail.get("ctx", {})
    mistake = context.get("error")
    if isinstance(mistake, InvalidSetting):
        message, hint = mistake.message, mistake.hint
    else:
        words = _WORDS.get(kind)
        message = detail["msg"].lower() if words is None else words(context)
        hint = _example(owner.section, name) if owner is not None else ""
    if spot is None:  # the value is missing
        location, key = (owner.location, owner.key) if owner is not None else (reading.root, "")
        return Problem(location, f"{key}.{name}" if key else name, message, hint)
    if kind == "literal_error":
        hint = one_of([str(arg) for arg in spot.wanted.args], spot.shown or "")
    if spot.shown is not None and not (isinstance(mistake, InvalidSetting) and spot.shown in message):
        message = f"`{spot.shown}` {message}"
    return Problem(spot.location, spot.key, message, hint)


def _field_of(path: Loc, reading: ShapedDocument) -> tuple[ValueLocation | None, str]:
    """The innermost section that contains a location, and the name of its field."""
    for end in range(len(path) - 1, -1, -1):
        spot = reading.locations.get(path[:end])
        if spot is not None and spot.section is not None:
            return spot, str(path[end])
    return None, ""


def _example(section: type[Section] | None, name: str) -> str:
    """A valid example from the field's documentation."""
    info = section.model_fields.get(name) if section is not None else None
    if info is None:
        return ""
    value = info.examples[0] if info.examples else info.default
    if value is None or value is PydanticUndefined:
        return ""
    return f"for example `{name}: {written(value)}`"


def written(value: Any) -> str:
    """A value as one line of YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(written(item) for item in value) + "]"
    if isinstance(value, str) and (value == "" or value[0] in "#*&!{[%@`'\"" or ": " in value):
        return f'"{value}"'
    return _plain(value)


def _plain(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
