"""Parser of YAML documents: a tree of nodes with their source locations; it knows no setting.

Scalars keep their text beside their value, so that a string field gets `0123` or `24.11` as written.
Size, depth and number of values (aliases included) are limited; tags and control characters are refused.
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
    """PyYAML's table of implicit resolvers, by the first character of a plain scalar."""
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {"": [(_PREFIX + "null", re.compile("$"))]}
    for tag, pattern, first in _PLAIN:
        for character in first:
            table.setdefault(character, []).append((_PREFIX + tag, re.compile(f"(?:{pattern})$")))
    return table


class _Loader(yaml.SafeLoader):
    """SafeLoader with the number syntax of YAML 1.2 and with limits of depth and size."""

    yaml_implicit_resolvers = _resolvers()
    depth = count = 0
    most = MAX_VALUES

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.count += 1
        if self.count > self.most:
            raise yaml.composer.ComposerError(None, None, "too many", self.get_mark())
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "too deep", self.get_mark())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


@dataclass(slots=True)
class ScalarNode:
    """A scalar: its text, and its value in YAML."""

    text: str
    value: Any
    location: SourceLocation


@dataclass(slots=True)
class MappingNode:
    """A mapping, located at its key; `implied` if the document itself does not contain it."""

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
    """Parse a file. On failure, add a problem and return None."""
    location = SourceLocation(str(path))
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        problems.append(Problem(location, "", "the file does not exist"))
    except IsADirectoryError:
        problems.append(Problem(location, "", "is a directory", "a file is required"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the path is invalid"
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


def parse(
    text: str, location: SourceLocation, problems: list[Problem], *, lines: bool = True, most: int = MAX_VALUES
) -> TreeNode | None:
    """Parse a YAML text of at most `most` values; None if it is empty. On failure, add a problem and return None.

    Without `lines` all nodes get `location` itself, for texts that are not part of a file.
    """
    loader: Any = None
    try:
        loader = _Loader(text)
        loader.most = most
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        if loader is not None and loader.count > most:
            problems.append(Problem(location, "", f"contains more than {most} values"))
        else:
            problems.append(_syntax(error, text, location, lines=lines))
        return None
    if root is None:
        return None
    try:
        return _TreeBuilder(location, problems, lines, most).node(root, location, 0)
    except SettingsError as error:
        problems.extend(error.problems)
        return None


@dataclass(slots=True)
class _TreeBuilder:
    """Builds the tree from PyYAML's nodes, in which aliases share a node."""

    location: SourceLocation
    problems: list[Problem]
    lines: bool
    most: int
    count: int = 0

    def node(self, node: Any, location: SourceLocation, depth: int) -> TreeNode:
        self.count += 1
        if self.count > self.most or depth > MAX_DEPTH:
            raise SettingsError(
                Problem(location, "", f"contains more than {self.most} values or {MAX_DEPTH} levels, aliases included")
            )
        if not node.tag.startswith(_PREFIX) or node.tag.removeprefix(_PREFIX) not in _KNOWN:
            self.problems.append(
                Problem(location, "", "contains a tag (!…), which is not accepted", "quote a string that begins with !")
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
            self.problems.append(Problem(location, "", "contains an invalid character (NUL or a surrogate)"))
            return ScalarNode("", None, location)
        return ScalarNode(node.value, _value(node.tag.removeprefix(_PREFIX), node.value), location)

    def branch(self, node: Any, location: SourceLocation, depth: int) -> MappingNode:
        branch, merged = MappingNode(location), MappingNode(location)
        for key, value in node.value:
            at = self.at(key)
            if not isinstance(key, yaml.ScalarNode) or not is_clean(key.value):
                self.problems.append(Problem(at, "", "a key must be a string"))
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
                self.problems.append(Problem(source.location, "<<", "must refer to a mapping"))


def _value(tag: str, text: str) -> Any:
    """The value of a scalar; its text if the conversion fails (a number with too many digits)."""
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
    """Parse a text as a plain (unquoted) scalar."""
    for tag, pattern, _ in _PLAIN:
        if tag != "merge" and re.fullmatch(pattern, text):
            return ScalarNode(text, _value(tag, text), location)
    return ScalarNode(text, text, location)


def is_clean(text: str) -> bool:
    """Whether a text contains neither NUL nor surrogates."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def shown_key(key: str) -> str:
    """A key as it is shown in errors: printable and at most 60 characters."""
    line = "".join(character if character.isprintable() else "?" for character in key)
    return line if len(line) <= 60 else f"{line[:57]}…"


_SYNTAX = (
    ("undefined alias", "`*` begins an alias that is not defined", "quote a string that begins with *"),
    ("duplicate anchor", "an anchor (&…) is defined twice", "quote a string that begins with &"),
    ("too deep", f"is nested more than {MAX_DEPTH} levels deep", ""),
    (r"'\t'", "indented with a tab, which YAML does not allow", "indent with spaces"),
    ("expected a single document", "contains more than one document", "remove the line `---` between them"),
    (
        "mapping values are not allowed",
        "unexpected colon",
        "check the indentation, quote strings that contain `: `",
    ),
    ("could not find expected ':'", "missing colon after a key", "check the indentation"),
    ("<block end>", "the indentation does not match the lines above", "align the keys of a mapping"),
    ("unexpected end of stream", "unterminated quoted string", ""),
    ("tag", "contains a tag (!…), which is not accepted", "quote a string that begins with !"),
    ("cannot start any token", "invalid first character of an unquoted string", "quote the string"),
    ("unknown escape character", "unknown escape sequence in a double-quoted string", "use single quotes, or \\\\"),
)


def _syntax(error: yaml.YAMLError, text: str, location: SourceLocation, *, lines: bool) -> Problem:
    """The problem of a syntax error. PyYAML's own message is not used: it may quote a secret."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        at = SourceLocation(location.file, line) if lines else location
        return Problem(at, "", "contains a control character or an invalid character", "remove it")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    at = SourceLocation(location.file, mark.line + 1) if mark is not None and lines else location
    said = f"{getattr(error, 'problem', None) or ''} {getattr(error, 'context', None) or ''}"
    for part, message, hint in _SYNTAX:
        if part in said:
            return Problem(at, "", message, hint)
    return Problem(at, "", "is not valid YAML", "check quotes, colons and indentation")
