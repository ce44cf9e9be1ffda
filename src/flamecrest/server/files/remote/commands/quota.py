"""Quotas of a user and a group on a path's file system, from the program `quota` of Linux. No I/O."""

from __future__ import annotations

import re
import stat as stat_bits
from typing import TYPE_CHECKING, Final

from flamecrest.server.files.values import OwnerQuota, PathQuotas, QuotaUsage
from flamecrest.server.ssh.command import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.server.ssh.command import Output

TIMEOUT: Final = 3.0  # seconds; `quota` asks every NFS server, and one of them may hang

_UNIT: Final = 1024  # bytes per block in the output of `quota`
_OUTPUT: Final = 1 << 20  # bytes; there is a section for each of the user's groups

# First the path's mode and group and the user's own group, then all quotas of the user on that file system. A device is
# found in whatever place it is mounted, also a part of it (as `mount --bind` does it); NFS has none and goes by the
# place. `cd`: stat finds that place by walking up, and wants to go back to where it was.
_SCRIPT: Final = r"""export LC_ALL=C
cd / && command -v quota >/dev/null && stat -L -c '%f %g' -- "$1" && id -g || exit 0
on=$(df --output=source -- "$1" | tail -n 1)
[ -b "$on" ] || on=$(stat -L -c %m -- "$1")
exec quota -u -g -v -w -p -f -- "$on"
"""
_PLACE: Final = re.compile(r"([0-9a-f]{1,8}) ([0-9]{1,10})\n([0-9]{1,10})\n")
_WHOSE: Final = re.compile(r"Disk quotas for (user|group) (.+) \([ug]id ([0-9]{1,10})\): *")
_NUMBER: Final = re.compile(r"([0-9]{1,20})\*?")  # a star: the limit is exceeded


def command(path: str) -> Command[PathQuotas | None]:
    """Return the command that reads the quotas; any failure gives None (unknown)."""
    return Command(("sh", "-c", _SCRIPT, "sh", path), _quotas, repeatable=True, max_output=_OUTPUT)


def _quotas(output: Output) -> PathQuotas | None:
    # the exit status is not used: it is 1 if a quota is exceeded
    text = output.stdout.decode("utf-8", "replace")
    place = _PLACE.match(text)
    if place is None:
        return None
    found: dict[tuple[str, int | None], OwnerQuota] = {}
    whose: re.Match[str] | None = None
    for line in text[place.end() :].split("\n"):
        heading = _WHOSE.fullmatch(line)
        if heading:
            whose = heading
        elif whose and (numbers := _numbers(line)):
            key = (whose[1], int(whose[3]) if whose[1] == "group" else None)
            found.setdefault(key, _quota(whose[2], numbers))
    mode, theirs, own = int(place[1], 16), int(place[2]), int(place[3])
    inherited = not stat_bits.S_ISDIR(mode) or mode & stat_bits.S_ISGID
    user, group = found.get(("user", None)), found.get(("group", theirs if inherited else own))
    return PathQuotas(user, group) if user or group else None


def _numbers(line: str) -> list[int]:
    """Return the eight numbers at the end of a line, after the file system's name; [] if there are none."""
    words = [_NUMBER.fullmatch(word) for word in line.rsplit(maxsplit=8)[1:]]
    numbers = [int(word[1]) for word in words if word]
    return numbers if len(numbers) == 8 else []


def _quota(name: str, numbers: Sequence[int]) -> OwnerQuota:
    used, soft, hard, grace, *files = numbers
    return OwnerQuota(name, _allowance((used * _UNIT, soft * _UNIT, hard * _UNIT, grace)), _allowance(files))


def _allowance(numbers: Sequence[int]) -> QuotaUsage:
    used, *limits = numbers
    soft, hard, grace = (limit or None for limit in limits)  # 0 is no limit
    return QuotaUsage(used, soft, hard, grace)
