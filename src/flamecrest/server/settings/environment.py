"""Settings from environment variables, which override those of the file.

`FLAMECREST__SSH_CREDENTIALS__TYPE`: the keys, joined by two underscores, in any case. An element of a list is given
by its index, a cluster also by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .document import MappingNode, ScalarNode, SequenceNode, TreeNode, is_clean, parse, scalar
from .problems import Problem, SourceLocation
from .shape import ExpectedValue, expected_field_value, expected_value, unknown_key

PREFIX = "FLAMECREST__"
_ANY = ExpectedValue(None, Any)


@dataclass(frozen=True, slots=True)
class EnvironmentOverride:
    """An environment variable: its name, the path of keys, its value."""

    name: str
    path: tuple[str, ...]
    text: str

    @property
    def location(self) -> SourceLocation:
        return SourceLocation(f"environment variable {self.name}")

    @property
    def order(self) -> tuple[Any, ...]:
        """Sort key: sections before their keys, elements of a list by their index."""
        return (len(self.path), [(0, int(part), "") if _is_index(part) else (1, 0, part) for part in self.path])


def overrides(environ: Mapping[str, str]) -> list[EnvironmentOverride]:
    """The overrides of an environment, in the order in which they are applied."""
    found = [
        EnvironmentOverride(name, tuple(name[len(PREFIX) :].split("__")), text)
        for name, text in environ.items()
        if name.upper().startswith(PREFIX)
    ]
    return sorted(found, key=lambda override: override.order)


def apply(root: MappingNode, override: EnvironmentOverride, wanted: ExpectedValue, problems: list[Problem]) -> None:
    """Apply an override to the tree; missing sections are created."""
    node: TreeNode = root
    for at, segment in enumerate(override.path):
        found = _find(node, wanted, segment, override, problems)
        if found is None:
            return
        key, wanted = found
        if at == len(override.path) - 1:
            value = _value(override, wanted, problems)
            if value is not None:
                _put(node, key, value)
            return
        child = _get(node, key)
        if not isinstance(child, MappingNode | SequenceNode):
            child = SequenceNode(override.location) if wanted.base is tuple else MappingNode(override.location)
            _put(node, key, child)
        node = child


def _find(
    node: TreeNode, wanted: ExpectedValue, segment: str, override: EnvironmentOverride, problems: list[Problem]
) -> tuple[str | int, ExpectedValue] | None:
    """The key or index that a part of the variable's name refers to, and the type of its value."""
    if isinstance(node, SequenceNode):
        index = _index(node, segment)
        if index is None:
            problems.append(_no_element(node, segment, override))
            return None
        return index, expected_value(wanted.args[0]) if wanted.args else _ANY
    if not isinstance(node, MappingNode):
        return None
    if wanted.variants:
        return _find_field(node, wanted, segment, override, problems)
    existing = next((key for key in node.entries if key == segment), None) or next(
        (key for key in node.entries if fold(key) == fold(segment)), None
    )
    name = segment.lower() if segment.isupper() else segment
    return existing or name, expected_value(wanted.args[1]) if len(wanted.args) == 2 else _ANY


def _find_field(
    node: MappingNode, wanted: ExpectedValue, segment: str, override: EnvironmentOverride, problems: list[Problem]
) -> tuple[str, ExpectedValue] | None:
    for variant in wanted.variants:
        for name in (*variant.model_fields, *variant.RENAMED):
            if fold(name) == fold(segment):
                field = variant.field_named(name) or name
                present = next((key for key in node.entries if variant.field_named(key) == field), field)
                return present, expected_field_value(variant, field)
    section = wanted.variants[0]
    if ignored := section.ignored_key(segment.lower()):
        return ignored, _ANY
    problems.append(unknown_key(section, segment.lower(), override.location, ""))
    return None


def fold(name: str) -> str:
    """A name without punctuation, in lower case, for comparison."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_index(segment: str) -> bool:
    return segment.isascii() and segment.isdecimal() and len(segment) <= 6


def _index(node: SequenceNode, segment: str) -> int | None:
    for at, item in enumerate(node.entries):
        if isinstance(item, MappingNode):
            name = item.entries.get("name")
            if isinstance(name, ScalarNode) and fold(name.text) == fold(segment):
                return at
    return int(segment) if _is_index(segment) and int(segment) <= len(node.entries) else None


def _no_element(node: SequenceNode, segment: str, override: EnvironmentOverride) -> Problem:
    names = [
        entry.text
        for item in node.entries
        if isinstance(item, MappingNode) and isinstance(entry := item.entries.get("name"), ScalarNode)
    ]
    count = len(node.entries)
    known = f"known: {', '.join(names)}" if names else f"the list has {count} elements, the next index is {count}"
    return Problem(override.location, "", f"no such element: {segment.lower()}", known)


def _get(node: TreeNode, key: str | int) -> TreeNode | None:
    if isinstance(node, MappingNode):
        return node.entries.get(str(key))
    if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.entries):
        return node.entries[key]
    return None


def _put(node: TreeNode, key: str | int, child: TreeNode) -> None:
    if isinstance(node, MappingNode):
        node.entries[str(key)] = child
    elif isinstance(node, SequenceNode) and isinstance(key, int):
        node.entries[key : key + 1] = [child]


def _value(override: EnvironmentOverride, wanted: ExpectedValue, problems: list[Problem]) -> TreeNode | None:
    """Parse the value: lists and mappings as YAML (or JSON), everything else as a scalar."""
    text, location = override.text, override.location
    if not is_clean(text):
        problems.append(Problem(location, "", "contains an invalid character"))
        return None
    if not wanted.is_text and text.lstrip().startswith(("[", "{")):
        return parse(text, location, problems, lines=False)
    return scalar(text, location)
