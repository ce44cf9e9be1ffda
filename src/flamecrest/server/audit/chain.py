"""Chains of audit records: each line contains the hash of the one before, so that a cut or a change shows. Pure.

A line is a JSON object whose last member is `hash`: SHA-256 (with a key: HMAC-SHA-256) of the bytes before it. Members
`chain`, `seq` and `prev` come first. Each process begins a chain with record 0 (`event` is `start`), whose `prev` is
the hash of the last line that was in the file then, and ends it with `event` `stop`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_HASH: Final = b',"hash":"'


class Chain:
    """The chain of one process."""

    def __init__(self, key: bytes = b"", prev: str = "") -> None:
        self._key = key
        self.name = secrets.token_hex(8)
        self.seq = 0  # of the next record
        self.prev = prev  # hash of the last record

    def seal(self, record: Mapping[str, Any]) -> bytes:
        """The line of a record, with its line end. All characters beyond ASCII are escaped.

        Of a member that is no JSON, only the type is in the line. After an error, the chain is as it was.
        """
        head = {"chain": self.name, "seq": self.seq, "prev": self.prev}
        try:
            data = _json({**head, **record})
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 -- the line must not be missing, whatever is in the record
            data = _json({**head, **_readable(record)})
        found = digest(self._key, data)
        line = data + _HASH + found.encode() + b'"}\n'
        self.prev = found
        self.seq += 1
        return line


def _json(record: Mapping[str, Any]) -> bytes:
    """A record without the brace at its end."""
    return json.dumps(record, ensure_ascii=True, separators=(",", ":"), default=str)[:-1].encode()


def _readable(record: Mapping[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in record.items():
        try:
            _json({"": value})
            found[str(name)] = value
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 -- as above
            found[str(name)] = {"unreadable": type(value).__name__}
    return found


def digest(key: bytes, data: bytes) -> str:
    """SHA-256, or HMAC-SHA-256 if there is a key, in hexadecimal digits."""
    return (hmac.new(key, data, hashlib.sha256) if key else hashlib.sha256(data)).hexdigest()


def hash_of(line: bytes) -> str | None:
    """The hash that a line says it has; None if it is not a line of the audit log."""
    _, found, rest = line.rstrip(b"\n").rpartition(_HASH)
    value = rest[:-2]
    return value.decode() if found and rest[-2:] == b'"}' and len(value) == 64 and value.isalnum() else None


@dataclass(slots=True)
class _Seen:
    seq: int
    hash: str
    stopped: bool


@dataclass(slots=True)
class Report:
    """What was found in audit logs. `problems`: lines are missing or were changed. `notes` may have other reasons."""

    lines: int = 0
    records: int = 0  # lines that are as they were written
    chains: dict[str, _Seen] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    last: str = ""  # hash of the last line
    other_hashes: int = 0  # lines whose hash is not the one that the key gives


def verify(lines: Iterable[tuple[str, bytes]], key: bytes = b"", *, partial: bool = False) -> Report:
    """Check lines, each with the place to name in a problem, in the order in which they were written.

    partial: older files were removed, so chains may begin in their middle.
    """
    report, hashes = Report(), set[str]()
    for place, line in lines:
        report.lines += 1
        record = _record(place, line, key, report)
        if record is None:
            _skip_changed(line, hashes, report)
            continue
        report.records += 1
        report.last = record["hash"]
        _link(place, record, hashes, report, partial=partial)
        hashes.add(report.last)
    for name, seen in report.chains.items():
        if not seen.stopped:
            report.notes.append(
                f"chain {name} has no end after record {seen.seq}: its process runs, was killed, or lines were removed"
            )
    return report


def _record(place: str, line: bytes, key: bytes, report: Report) -> dict[str, Any] | None:
    found = hash_of(line)
    if found is None or not line.endswith(b"\n"):
        report.problems.append(f"{place}: not a whole line of the audit log")
        return None
    data = line.rpartition(_HASH)[0]
    if not hmac.compare_digest(digest(key, data), found):
        report.other_hashes += 1
        report.problems.append(f"{place}: the line was changed, or has another key")
        return None
    record = json.loads(line)
    if not isinstance(record, dict) or not {"chain", "seq", "prev", "event"} <= set(record):
        report.problems.append(f"{place}: not a line of the audit log")
        return None
    return record


def _skip_changed(line: bytes, hashes: set[str], report: Report) -> None:
    """Let a line that was changed, and is reported, take its place in its chain: the next one is not wrong, too."""
    found = hash_of(line)
    try:
        record = json.loads(line)
        name, seq = record["chain"], record["seq"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    if found is None or not isinstance(name, str):
        return
    seen = report.chains.get(name)
    if seq == (0 if seen is None else seen.seq + 1):
        report.chains[name] = _Seen(seq, found, record.get("event") == "stop")
        hashes.add(found)


def _link(place: str, record: dict[str, Any], hashes: set[str], report: Report, *, partial: bool) -> None:
    """Check that a record follows the one before in its chain."""
    name, seq, prev = str(record["chain"]), int(record["seq"]), str(record["prev"])
    seen = report.chains.get(name)
    if seen is None:
        if seq and not partial:
            report.problems.append(f"{place}: chain {name} begins with record {seq}: earlier lines are missing")
        elif not seq and prev and prev not in hashes and not partial:
            report.problems.append(f"{place}: chain {name} follows a line that is missing")
    elif seq != seen.seq + 1:
        report.problems.append(f"{place}: chain {name} has record {seq} after {seen.seq}")
    elif prev != seen.hash:
        report.problems.append(f"{place}: chain {name} is broken before record {seq}")
    report.chains[name] = _Seen(seq, record["hash"], record["event"] == "stop")
