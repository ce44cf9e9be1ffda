"""A YAML document as a tree that remembers where everything stands; it knows no setting.

Scalars keep their text beside their value, so that a field that holds text gets `0123` or `24.11` as written.
Hostile input is bounded: size, depth, number of values after aliases, no tags, no control characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .problems import Problem, SettingsError, SourceLocation

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_VALUES = 25_000

_PREFIX = "tag:yaml.org,2002:"
_PLAIN: list[tuple[str, str, str]] = [  # tag, pattern, first characters; no base-60 and no leading-zero octal numbers
    ("null", r"(?:~|null|Null|NULL|)", "~nN"),
    ("bool", r"(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)", "yYnNtTfFoO"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+)", "-+0123456789"),
    ("float", r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)", "-+0123456789."),
    ("merge", r"<<", "<"),
]
_KNOWN = frozenset({"null", "bool", "int", "float", "str", "seq", "map", "merge"})
_TRUE = frozenset({"yes", "true", "on"})


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """The table by first character that PyYAML looks plain scalars up in."""
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {"": [(_PREFIX + "null", re.compile("$"))]}
    for tag, pattern, first in _PLAIN:
        for character in first:
            table.setdefault(character, []).append((_PREFIX + tag, re.compile(f"(?:{pattern})$")))
    return table


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's numbers and limits on depth and size."""

    yaml_implicit_resolvers = _resolvers()
    depth = count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.count += 1
        if self.count > MAX_VALUES:
            raise yaml.composer.ComposerError(None, None, "too many", self.get_mark())
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "too deep", self.get_mark())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


@dataclass(slots=True)
class ScalarNode:
    """A scalar: its text, and what YAML makes of it."""

    text: str
    value: Any
    location: SourceLocation


@dataclass(slots=True)
class MappingNode:
    """A mapping. `place` is that of its key; `implied` marks one that the author did not write."""

    location: SourceLocation
    entries: dict[str, TreeNode] = field(default_factory=dict)
    implied: bool = False


@dataclass(slots=True)
class SequenceNode:
    """A sequence."""

    location: SourceLocation
    entries: list[TreeNode] = field(default_factory=list)


TreeNode = ScalarNode | MappingNode | SequenceNode


def read(path: Path, problems: list[Problem]) -> TreeNode | None:
    """The tree of a file; None and a problem when it can't be read."""
    location = SourceLocation(str(path))
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        problems.append(Problem(location, "", "the file does not exist"))
    except IsADirectoryError:
        problems.append(Problem(location, "", "is a directory", "name the file in it"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no valid path"
        problems.append(Problem(location, "", f"cannot be read: {reason}"))
    else:
        return _decode(data, location, problems)
    return None


def _decode(data: bytes, location: SourceLocation, problems: list[Problem]) -> TreeNode | None:
    if len(data) > MAX_BYTES:
        problems.append(Problem(location, "", f"is larger than {MAX_BYTES} bytes"))
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = SourceLocation(location.file, data.count(b"\n", 0, error.start) + 1)
        problems.append(Problem(at, "", "is not UTF-8 text", "save the file as UTF-8"))
        return None
    return parse(text, location, problems)


def parse(text: str, location: SourceLocation, problems: list[Problem], *, lines: bool = True) -> TreeNode | None:
    """The tree of a YAML text; None when it is empty or no YAML at all (then with a problem).

    Without `lines` everything stands at `place` itself (for a text that has no lines of its own).
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        problems.append(_syntax(error, text, location, lines=lines))
        return None
    if root is None:
        return None
    try:
        return _TreeBuilder(location, problems, lines).node(root, location, 0)
    except SettingsError as error:
        problems.extend(error.problems)
        return None


@dataclass(slots=True)
class _TreeBuilder:
    """Grows our tree from PyYAML's nodes, which share what aliases repeat."""

    location: SourceLocation
    problems: list[Problem]
    lines: bool
    count: int = 0

    def node(self, node: Any, location: SourceLocation, depth: int) -> TreeNode:
        self.count += 1
        if self.count > MAX_VALUES or depth > MAX_DEPTH:
            raise SettingsError(
                Problem(
                    location, "", f"holds more than {MAX_VALUES} values or {MAX_DEPTH} levels once aliases are followed"
                )
            )
        if not node.tag.startswith(_PREFIX) or node.tag.removeprefix(_PREFIX) not in _KNOWN:
            self.problems.append(
                Problem(
                    location, "", "holds a tag (!…), which is not accepted", "put a text that begins with ! in quotes"
                )
            )
            return ScalarNode("", None, location)
        if isinstance(node, yaml.ScalarNode):
            return self.leaf(node, location)
        if isinstance(node, yaml.SequenceNode):
            return SequenceNode(location, [self.node(item, self.at(item), depth + 1) for item in node.value])
        return self.branch(node, location, depth)

    def at(self, node: Any) -> SourceLocation:
        return SourceLocation(self.location.file, node.start_mark.line + 1) if self.lines else self.location

    def leaf(self, node: Any, location: SourceLocation) -> ScalarNode:
        if not is_clean(node.value):
            self.problems.append(Problem(location, "", "holds a character that no setting can hold (NUL, half a pair)"))
            return ScalarNode("", None, location)
        return ScalarNode(node.value, _value(node.tag.removeprefix(_PREFIX), node.value), location)

    def branch(self, node: Any, location: SourceLocation, depth: int) -> MappingNode:
        branch, merged = MappingNode(location), MappingNode(location)
        for key, value in node.value:
            at = self.at(key)
            if not isinstance(key, yaml.ScalarNode) or not is_clean(key.value):
                self.problems.append(Problem(at, "", "a key must be a plain text"))
            elif key.tag == _PREFIX + "merge":
                self.merge(merged, self.node(value, at, depth + 1))
            elif key.value in branch.entries:
                earlier = branch.entries[key.value].location.line
                self.problems.append(
                    Problem(at, shown_key(key.value), f"is given twice (first in line {earlier})", "keep one")
                )
            else:
                branch.entries[key.value] = self.node(value, at, depth + 1)
        for name, child in merged.entries.items():
            branch.entries.setdefault(name, child)
        return branch

    def merge(self, target: MappingNode, source: TreeNode) -> None:
        for branch in source.entries if isinstance(source, SequenceNode) else [source]:
            if isinstance(branch, MappingNode):
                for name, child in branch.entries.items():
                    target.entries.setdefault(name, child)
            else:
                self.problems.append(Problem(source.location, "<<", "must name a mapping"))


def _value(tag: str, text: str) -> Any:
    """What YAML makes of a scalar; its text where that fails (a number too long to be one)."""
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() in _TRUE
    try:
        if tag == "int":
            return int(text.replace("_", ""), 0)
        if tag == "float":
            return float(text.replace("_", ""))
    except ValueError:
        return text
    return text


def scalar(text: str, location: SourceLocation) -> ScalarNode:
    """A leaf from a bare text, read as YAML reads an unquoted scalar."""
    for tag, pattern, _ in _PLAIN:
        if tag != "merge" and re.fullmatch(pattern, text):
            return ScalarNode(text, _value(tag, text), location)
    return ScalarNode(text, text, location)


def is_clean(text: str) -> bool:
    """Whether a text holds neither NUL nor half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def shown_key(key: str) -> str:
    """A key as it is shown: on one line, and not longer than a key is."""
    line = "".join(character if character.isprintable() else "?" for character in key)
    return line if len(line) <= 60 else f"{line[:57]}…"


_SYNTAX = (
    ("undefined alias", "`*` begins an alias that is not defined", "put a text that begins with * in quotes"),
    ("duplicate anchor", "an anchor (&…) is defined twice", "put a text that begins with & in quotes"),
    ("too many", f"holds more than {MAX_VALUES} values", ""),
    ("too deep", f"is nested more than {MAX_DEPTH} levels deep", ""),
    (r"'\t'", "a tab, which YAML does not take", "indent with spaces"),
    ("expected a single document", "holds more than one document", "remove the line `---` between them"),
    (
        "mapping values are not allowed",
        "a colon where no key can stand",
        "check the indentation, quote texts with `: `",
    ),
    ("could not find expected ':'", "a line without a colon where a key is expected", "check the indentation"),
    ("<block end>", "the indentation does not fit the lines above", "align it with its neighbours"),
    ("unexpected end of stream", "a quotation mark is never closed", ""),
    ("tag", "holds a tag (!…), which is not accepted", "put a text that begins with ! in quotes"),
    ("cannot start any token", "a character that no unquoted text can begin with", "put the text in quotes"),
    ("unknown escape character", "an unknown escape in a double-quoted text", "use single quotes, or \\\\"),
)


def _syntax(error: yaml.YAMLError, text: str, location: SourceLocation, *, lines: bool) -> Problem:
    """PyYAML's complaint in our words: its own may quote what stands there, which may be a secret."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        at = SourceLocation(location.file, line) if lines else location
        return Problem(at, "", "holds a control character or one that is no text", "remove it")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    at = SourceLocation(location.file, mark.line + 1) if mark is not None and lines else location
    told = f"{getattr(error, 'problem', None) or ''} {getattr(error, 'context', None) or ''}"
    for part, message, hint in _SYNTAX:
        if part in told:
            return Problem(at, "", message, hint)
    return Problem(at, "", "is no YAML from here on", "check quotes, colons and indentation")
