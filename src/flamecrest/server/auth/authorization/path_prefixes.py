"""Compares paths with the prefixes of rules. Lexical: links are resolved by the Cluster. No I/O."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PLACEHOLDER: Final = re.compile(r"\{(user|group)\}")
_NAME: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_.@+-]{1,255}", re.ASCII)


def check_prefix(prefix: str) -> None:
    """Raise ValueError for a prefix of a rule that is not absolute, not normalized or has an unknown placeholder."""
    rest = _PLACEHOLDER.sub("x", prefix)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{prefix}: possible placeholders are {{user}} and {{group}}")
    if plain_path(rest) != rest:
        raise ValueError(f"{prefix}: a path begins with `/` and has no `..`, no `//` and no `/` at its end")


def expand(prefixes: Iterable[str], user: str, groups: Iterable[str]) -> tuple[str, ...]:
    """The prefixes of one caller: `{user}` is the account, and `{group}` stands for each of the groups in turn.

    A group that is no single name of a path (such as `a/b` or `..`) is left out.
    """
    found: list[str] = []
    for prefix in prefixes:
        if "{" not in prefix:
            found.append(prefix)
        elif "{group}" not in prefix:
            found.append(prefix.replace("{user}", user))
        else:
            plain = sorted(name for group in groups if _NAME.fullmatch(name := group.removeprefix("/")))
            found += [prefix.replace("{user}", user).replace("{group}", name) for name in plain]
    return tuple(found)


def plain_path(path: str) -> str | None:
    """The path with `.`, `..` and `//` resolved lexically; None if it is not absolute or no valid path."""
    if not path.startswith("/") or "\0" in path:
        return None
    if "/." not in path and "//" not in path and not path.endswith("/"):
        return path
    return "/" + posixpath.normpath(path).lstrip("/")


def is_below(path: str, prefix: str) -> bool:
    """Whether a normalized path is `prefix` or below it. Upper and lower case differ."""
    return path == prefix or path.startswith(prefix if prefix == "/" else f"{prefix}/")


def all_within(paths: Iterable[str], prefixes: Sequence[str]) -> bool:
    """Whether each path lies in one of the prefixes. A path that is not valid lies in none."""
    for path in paths:
        plain = plain_path(path)
        if plain is None or not any(is_below(plain, prefix) for prefix in prefixes):
            return False
    return True


def any_concerned(paths: Iterable[str], prefixes: Sequence[str], *, tree: bool) -> bool:
    """Whether a path lies in one of the prefixes or, with `tree`, contains one. A path that is not valid does."""
    for path in paths:
        plain = plain_path(path)
        if plain is None or any(is_below(plain, prefix) or (tree and is_below(prefix, plain)) for prefix in prefixes):
            return True
    return False
