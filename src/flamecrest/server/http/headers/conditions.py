"""Validators and conditional requests (RFC 9110, sections 8.8 and 13): ETag, Last-Modified, and the five If- headers.

Pure: knows the attributes of a file and the headers of a request.
"""

import re
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Final

from flamecrest.server.files.values import Stat

_TAG: Final = re.compile(r'[ \t]*(\*|(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"|)[ \t]*(?:,|\Z)')
_MAX_LIST: Final = 8192  # bytes of a list of tags that are read
_DATES: Final = (
    (re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", re.ASCII), "%a, %d %b %Y %H:%M:%S GMT"),
    (re.compile(r"[A-Z][a-z]+, \d\d-[A-Z][a-z]{2}-\d\d \d\d:\d\d:\d\d GMT", re.ASCII), "%A, %d-%b-%y %H:%M:%S GMT"),
    (re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}", re.ASCII), "%a %b %d %H:%M:%S %Y"),
)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LAST_YEAR: Final = 253402300799  # the end of the year 9999


class Outcome(Enum):
    """The result of evaluating the conditions of a request."""

    GO_ON = "go on"
    NOT_MODIFIED = "not modified"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Validators:
    """The validators of one state of a file.

    A strong tag contains ctime, which users cannot set. A file that was changed within the last step of the clock has
    no tag, as its next state may have the same; where the cluster tells no ctime the tag is weak.
    """

    etag: str | None
    modified: int | None  # seconds since the epoch
    settled: bool  # a later change would have another modification time (unless a user sets it)
    untouched: bool = False  # no change later than `modified`: a user may set the modification time back

    @classmethod
    def of(cls, stat: Stat, now: float, *, written: bool = False) -> "Validators":
        """The validators of a file at the gateway's time `now`. `written`: the gateway itself made this state."""
        mtime = f"{stat.mtime * 10**9 + stat.mtime_fraction:x}"
        settled = stat.now(now) - stat.mtime - stat.mtime_fraction / 1e9 >= 1
        if stat.ino and stat.ctime:
            ctime = f"{stat.ctime * 10**9 + stat.ctime_fraction:x}"
            proven = written or stat.settles_in(now) <= 0
            tag = f'"{stat.ino:x}-{stat.size:x}-{mtime}-{ctime}"' if proven else None
        else:
            tag = f'W/"{stat.size:x}-{mtime}"' if settled and not stat.ctime else None
        # a date in the future must not be sent (RFC 9110, 8.8.2.1); years have four digits
        modified = stat.mtime if 0 <= stat.mtime <= min(now, _LAST_YEAR) else None
        return cls(tag, modified, settled, untouched=bool(stat.ctime) and stat.ctime - stat.mtime <= 1)

    @property
    def last_modified(self) -> str | None:
        """The date to send. It is a second early while another change may follow in the same second."""
        if self.modified is None:
            return None
        return format_http_date(self.modified if self.settled else max(0, self.modified - 1))


NO_VALIDATORS: Final = Validators(None, None, settled=False)  # of a file whose content is generated while it is read


def evaluate(given: Mapping[str, str], found: Validators | None, *, reading: bool) -> Outcome:
    """Evaluate the conditions in the headers `given` (lower-case names). `found` is None if there is no file."""
    if (tags := given.get("if-match")) is not None:
        if not _matches(tags, found, strong=True):
            return Outcome.FAILED
    elif (since := _seconds(given, "if-unmodified-since")) is not None and not _unmodified(found, since):
        return Outcome.FAILED
    if (tags := given.get("if-none-match")) is not None:
        if _matches(tags, found, strong=False):
            return Outcome.NOT_MODIFIED if reading else Outcome.FAILED
    elif reading and (since := _seconds(given, "if-modified-since")) is not None and _unmodified(found, since):
        return Outcome.NOT_MODIFIED
    return Outcome.GO_ON


def _unmodified(found: Validators | None, since: int) -> bool:
    """Whether a file was certainly not modified after a date: the date of a recent modification proves nothing."""
    return found is not None and found.settled and found.modified is not None and found.modified <= since


def range_applies(given: Mapping[str, str], found: Validators) -> bool:
    """Whether If-Range lets a Range header apply: the client has parts of the same state."""
    condition = given.get("if-range")
    if condition is None:
        return True
    condition = condition.strip()
    if condition.startswith(('"', "W/")):
        return condition == found.etag and not condition.startswith("W/")
    since = parse_http_date(condition)
    return since is not None and since == found.modified and found.settled and found.untouched


def _matches(header: str, found: Validators | None, *, strong: bool) -> bool:
    if found is None:
        return False
    tags = entity_tags(header)
    if "*" in tags:
        return True
    mine = found.etag
    if mine is None or (strong and mine.startswith("W/")):
        return False
    mine = mine.removeprefix("W/")
    return any(mine == (tag if strong else tag.removeprefix("W/")) for tag in tags)


def entity_tags(header: str) -> list[str]:
    """The entity tags of a list, or `*`, up to the first invalid one.

    Empty elements are ignored (RFC 9110, 5.6.1.2). What is beyond _MAX_LIST bytes counts as invalid.
    """
    tags, at, header = [], 0, header[:_MAX_LIST]
    while at < len(header) and (match := _TAG.match(header, at)) is not None:
        if match[1]:
            tags.append(match[1])
        at = match.end()
    return tags


def _seconds(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    return None if text is None else parse_http_date(text)


def parse_http_date(text: str) -> int | None:
    """Parse an HTTP date in any of its three formats: seconds since the epoch, None if it is invalid."""
    text = text.strip()
    for shape, form in _DATES:
        if shape.fullmatch(text):
            try:
                found = datetime.strptime(text, form).replace(tzinfo=UTC)
                if "%y" in form and found.year > datetime.now(UTC).year + 50:
                    found = found.replace(year=found.year - 100)
            except ValueError:
                return None
            return timegm(found.utctimetuple())
    return None


@lru_cache(maxsize=1024)  # files that were written at the same time are often requested together
def format_http_date(seconds: int) -> str:
    """Write an HTTP date, independent of the locale."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} {at:%H:%M:%S} GMT"
