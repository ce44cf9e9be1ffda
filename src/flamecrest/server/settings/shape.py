"""Converts a document's tree to plain values for validation, guided by the fields of the sections.

Unknown keys, keys given twice in two spellings and unknown variants are reported here, where lines and spellings are
known. The locations of all values are kept for the errors of the validation.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.alias_generators import to_camel

from .document import MappingNode, ScalarNode, SequenceNode, TreeNode, shown_key
from .problems import InvalidSetting, Problem, SourceLocation
from .section import Kind, Section, StoredSecret, read_secret

Loc = tuple[str | int, ...]

MAX_HINTS = 200  # the search for similar keys is slow, so its number is limited


@dataclass(frozen=True, slots=True)
class ExpectedValue:
    """The type of a value in the configuration: its kind, its base type, type arguments and section variants."""

    kind: Kind | None
    base: Any  # a class, Literal, tuple, Mapping or Any
    args: tuple[Any, ...] = ()
    variants: tuple[type[Section], ...] = ()

    @property
    def is_text(self) -> bool:
        return self.base in (str, SecretStr, Path, Literal)

    @property
    def is_private(self) -> bool:
        return self.base is SecretStr or (self.kind is not None and self.kind.private)


def expected_value(annotation: Any, metadata: Sequence[Any] = ()) -> ExpectedValue:
    """Analyse a type annotation; Annotated and `| None` are removed."""
    kind = next((item for item in metadata if isinstance(item, Kind)), None)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = expected_value(args[0], args[1:])
        return inner if kind is None else ExpectedValue(kind, inner.base, inner.args, inner.variants)
    if origin in (Union, UnionType):
        rest = [arg for arg in args if arg is not NoneType]
        sections = tuple(arg for arg in rest if isinstance(arg, type) and issubclass(arg, Section))
        if len(sections) > 1:
            return ExpectedValue(kind, Section, variants=sections)
        inner = expected_value(rest[0])
        return ExpectedValue(kind or inner.kind, inner.base, inner.args, inner.variants)
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return ExpectedValue(kind, Section, variants=(annotation,))
    if origin is not None:
        return ExpectedValue(kind, origin, args)
    return ExpectedValue(kind, annotation)


def expected_field_value(section: type[Section], name: str) -> ExpectedValue:
    """The type of a field."""
    info = section.model_fields[name]
    return expected_value(info.annotation, info.metadata)


@dataclass(frozen=True, slots=True)
class ValueLocation:
    """The location of a value, its key as written, and the value itself if it may be shown."""

    location: SourceLocation
    key: str
    wanted: ExpectedValue
    section: type[Section] | None = None
    shown: str | None = None


@dataclass(slots=True)
class ShapedDocument:
    """The conversion of one tree, with the problems and locations found on the way."""

    problems: list[Problem]
    root: SourceLocation
    locations: dict[Loc, ValueLocation] = field(default_factory=dict)
    broken: set[Loc] = field(default_factory=set)  # reported already, or of an unknown variant

    def shape(self, node: TreeNode, wanted: ExpectedValue, loc: Loc, key: str) -> Any:
        """The plain value of a node, with keys named like the fields."""
        self.locations[loc] = ValueLocation(node.location, key, wanted, shown=_shown(node, wanted))
        if isinstance(node, MappingNode):
            if wanted.variants:
                return self._section(node, wanted, loc, key)
            value = expected_value(wanted.args[1]) if len(wanted.args) == 2 and wanted.base is not tuple else _ANY
            return {
                name: self.shape(child, value, (*loc, name), join(key, name, child))
                for name, child in node.entries.items()
            }
        if isinstance(node, SequenceNode):
            item = expected_value(wanted.args[0]) if wanted.base is tuple else _ANY
            return [
                self.shape(child, item, (*loc, at), "" if _is_implied(child) else f"{key}[{at}]")
                for at, child in enumerate(node.entries)
            ]
        return self._leaf(node, wanted, loc, key)

    def _leaf(self, node: ScalarNode, wanted: ExpectedValue, loc: Loc, key: str) -> Any:
        if wanted.base is tuple and node.value is not None and expected_value(wanted.args[0]).is_text:
            return node.text
        if not wanted.is_text or node.value is None:
            return node.value
        if wanted.base is not SecretStr:
            return node.text
        try:
            value = read_secret(node.text)
        except InvalidSetting as mistake:
            self.problems.append(Problem(node.location, key, mistake.message, mistake.hint))
            self.broken.add(loc)
            return None
        inline = node.location.line is not None or isinstance(value, StoredSecret)
        return value if inline else StoredSecret(value)

    def _section(self, node: MappingNode, wanted: ExpectedValue, loc: Loc, key: str) -> Any:
        section = self._variant(node, wanted, key)
        if section is None:
            self.broken.add(loc)
            return None
        self.locations[loc] = ValueLocation(node.location, key, wanted, section)
        result: dict[str, Any] = {}
        written: dict[str, str] = {}
        for name, child in node.entries.items():
            where = join(key, name, child)
            target = section.field_named(name)
            if target is None:
                if section.ignored_key(name) is not None:
                    result[name] = True  # for Section.ignored
                else:
                    hint = len(self.problems) < MAX_HINTS
                    self.problems.append(unknown_key(section, name, child.location, where, hint=hint))
            elif target in written:
                message = f"means the same as `{written[target]}`, which is given, too"
                self.problems.append(Problem(child.location, where, message, "keep one"))
            else:
                written[target] = name
                value = self.shape(child, expected_field_value(section, target), (*loc, target), where)
                if value is not None:
                    result[target] = value
                elif section.EMPTY_IS_SET and isinstance(child, ScalarNode):
                    result[target] = {}
        return result

    def _variant(self, node: MappingNode, wanted: ExpectedValue, key: str) -> type[Section] | None:
        """The section of a mapping; of several variants, the one that the tag selects."""
        if len(wanted.variants) == 1:
            return wanted.variants[0]
        tag = wanted.variants[0].TAG or ""
        names = {variant: get_args(variant.model_fields[tag].annotation)[0] for variant in wanted.variants}
        found = next((child for name, child in node.entries.items() if name in (tag, to_camel(tag))), None)
        text = found.text if isinstance(found, ScalarNode) else None
        for variant, name in names.items():
            if text == name:
                return variant
        where = f"{key}.{tag}" if key else tag
        if found is None:
            self.problems.append(Problem(node.location, where, "is missing", one_of(list(names.values()), "")))
        else:
            shown = shown_key(text or "")
            message = f"`{shown}` is unknown" if shown else "must be a string"
            self.problems.append(Problem(found.location, where, message, one_of(list(names.values()), shown)))
        return None


_ANY = ExpectedValue(None, Any)


def join(key: str, name: str, child: TreeNode | None = None) -> str:
    """The path of a key as written; a mapping that is not in the document adds nothing."""
    if child is not None and _is_implied(child):
        return key
    name = shown_key(name)
    return f"{key}.{name}" if key else name


def _is_implied(node: TreeNode) -> bool:
    return isinstance(node, MappingNode) and node.implied


def unknown_key(
    section: type[Section], name: str, location: SourceLocation, where: str, *, hint: bool = True
) -> Problem:
    """The problem of an unknown key; the hint is a similar key, or the section that the key belongs to."""
    if not hint:
        return Problem(location, where, "is not a setting")
    known = [*section.known_keys(), *section.RENAMED]
    camel = "_" not in name and name != name.lower()
    spelled = {to_camel(key) if camel else key for key in known}
    near = difflib.get_close_matches(name, sorted(spelled), 1, 0.6)
    if near:
        return Problem(location, where, "is not a setting", f"did you mean `{near[0]}`?")
    for parent in section.model_fields:
        for variant in expected_field_value(section, parent).variants:
            if variant.field_named(name) is not None:
                return Problem(location, where, "is not a setting here", f"it belongs under `{parent}`")
    return Problem(location, where, "is not a setting", f"known keys: {', '.join(section.known_keys())}")


def one_of(allowed: Sequence[str], written: str) -> str:
    """A hint with the allowed values, the most similar one first."""
    near = difflib.get_close_matches(written.lower(), [name.lower() for name in allowed], 1, 0.5)
    meant = next((name for name in allowed if near and name.lower() == near[0]), None)
    choice = f"one of {', '.join(allowed)}" if len(allowed) > 1 else allowed[0]
    return f"did you mean {meant}? {choice}" if meant else choice


def _shown(node: TreeNode, wanted: ExpectedValue) -> str | None:
    """The value if it may be shown in an error: it is short and not of a secret kind."""
    if not isinstance(node, ScalarNode) or wanted.is_private or wanted.variants or wanted.base in (Any, Mapping):
        return None
    plain = 0 < len(node.text) <= 60 and node.text.isprintable() and "@" not in node.text
    return node.text if plain else None
