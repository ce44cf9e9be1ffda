"""Values in slurmrestd's JSON: plain ones up to v0.0.38, `{set, infinite, number}` and lists in later versions.

Slurm does not promise the types of its answers, so every function accepts any JSON value: what is missing or of another
type is None, "" or ().
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_NO_VALUES: Final = frozenset({0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFE, 0xFFFFFFFFFFFFFFFF})  # NO_VAL, INFINITE


def mapping(value: Any) -> Mapping[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> Sequence[Mapping[str, Any]]:
    """The objects in a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def number(value: Any) -> int | None:
    """An integer; None if it is not set, infinite, or one of Slurm's numbers for these."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set") and not value.get("infinite") else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < 2**63 and value not in _NO_VALUES else None


def moment(value: Any) -> int | None:
    """Seconds since the epoch; None for 0, which stands for no time."""
    return number(value) or None


def text(value: Any) -> str:
    """A text; "" if it is missing. Lone surrogates, which no answer may contain, are replaced."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def words(value: Any) -> Sequence[str]:
    """A list of texts; older versions write one text, with commas between several."""
    if isinstance(value, str):
        value = value.split(",")
    return [word for one in value if (word := text(one).strip())] if isinstance(value, list) else []


def exit_status(value: Any) -> tuple[int | None, int | None]:
    """Exit code and signal, from a status of wait(2) or from `{return_code, signal}`."""
    if not isinstance(value, dict):
        status = number(value)
        return (None, None) if status is None else (status >> 8 & 0xFF, status & 0x7F)
    signal = mapping(value.get("signal"))
    code = number(value.get("return_code"))
    sent = number(signal.get("id", signal.get("signal_id")))
    return (code or 0, sent or 0) if code is not None or sent is not None else (None, None)
