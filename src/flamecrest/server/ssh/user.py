"""The user's name, groups and ids on the login node: the `id` command and its output."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from flamecrest.server.errors import Upstream

from .command import Command, Output

_PAIR = re.compile(r"(\d+)(?:\(([^)]*)\))?")


@dataclass(frozen=True, slots=True)
class NamedId:
    """A numeric id as text, and its name (the number if the system has no name for it)."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class User:
    """A user with the primary group and all groups."""

    user: NamedId
    group: NamedId
    groups: Sequence[NamedId]


def whoami() -> Command[User]:
    """The command that prints the ids of the session's user."""
    return Command(("id",), _parse, repeatable=True)


def _parse(output: Output) -> User:
    """Read `uid=1001(ann) gid=1001(ann) groups=1001(ann),27(sudo)`; some groups may lack a name (then status 1)."""
    output.check_installed()
    parts = dict(re.findall(r"\b(uid|gid|groups)=(\S+(?: [^=]*?)?)(?= \w+=|$)", output.text().strip()))
    found = {key: _named(parts.get(key, "")) for key in ("uid", "gid", "groups")}
    if not found["uid"] or not found["gid"]:
        raise Upstream("The login node could not tell who you are", detail=f"id: {output.errors()!r}")
    user, group = found["uid"][0], found["gid"][0]
    return User(user, group, found["groups"] or [group])


def _named(text: str) -> list[NamedId]:
    return [NamedId(number, name or number) for number, name in _PAIR.findall(text)]
