"""The caller's own options of qsub (`native`): those that the gateway needs itself are refused. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from flamecrest.server.schedulers.job_environment import check_line, invalid_field

if TYPE_CHECKING:
    from flamecrest.server.errors import Invalid

# Options that let qsub wait, hide the id of the job, read other lines of the script, or replace the variables of the
# job, among which is the mark by which it is found again.
_RESERVED: Final = {"I": "", "X": "", "z": "", "C": "", "v": "give `env`"}
_WITHOUT_VALUE: Final = frozenset("fhIVXz")
# Attributes of `-W` that do the same; PBS takes their names in any case.
_ATTRIBUTE: Final = re.compile(r"(?:^|,)\s*(block|interactive|variable_list)\s*=", re.ASCII | re.IGNORECASE)
# The option of each field: giving both is a contradiction.
_FIELDS: Final = {
    "name": "N", "account": "A", "partition": "q", "reservation": "q", "standardOutput": "o", "standardError": "e",
    "priority": "p", "array": "J", "hold": "h", "begin": "a", "requeue": "r", "mail": "m",
}  # fmt: skip


def check_native(option: str, given: frozenset[str]) -> str:
    """The option, if the caller may give it beside the fields `given`. Raises Invalid.

    Letters without a value may be written together, and the value of the last one behind it: `-hN name` is `-h -N`.
    """
    if not re.match(r"-[A-Za-z]", option):
        raise invalid_field("native", f"{option[:80]!r} is no option: write `-lplace=free`, each in one text")
    check_line("native", option)
    for place, letter in enumerate(option[1:], 2):
        if letter in _RESERVED:
            raise _refused(f"-{letter}", _RESERVED[letter])
        for field, short in _FIELDS.items():
            if letter == short and field in given:
                raise invalid_field("native", f"-{letter} contradicts the field `{field}`: give one of them")
        if letter not in _WITHOUT_VALUE:
            if letter == "W" and (found := _ATTRIBUTE.search(option[place:])) is not None:
                raise _refused(f"-W {found[1]}", "give `env`" if found[1].lower().startswith("v") else "")
            break
    return option


def _refused(option: str, instead: str) -> Invalid:
    return invalid_field("native", f"{option} is not allowed" + (f": {instead}" if instead else ""))
