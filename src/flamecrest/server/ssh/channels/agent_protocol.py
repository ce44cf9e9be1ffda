"""The questions that the agent answers and the format of its answers. Pure: bytes in, values out."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# dev ino mode nlink uid gid rdev size atime mtime ctime, and the nanoseconds of mtime's fraction (rounded as a double
# rounds them, so that the agent and `stat` give the same number for a file; 0: only the second is known)
StatNumbers = tuple[int, ...]

_HEAD = struct.Struct(">cI")  # letter, length of the text


class StatError(Exception):
    """stat(2) failed with this errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


class Question(Generic[T]):
    """A question to the agent: a letter, its arguments as text, and how to read the answer.

    `read` raises ValueError for anything that is not an answer of our agent. A `repeatable` question changes nothing.
    A `slow` question waits while two others are in progress, and shares its answer with questions of the same text:
    `read` must depend on the text alone.
    """

    __slots__ = ("read", "repeatable", "slow", "text")

    def __init__(
        self, letter: bytes, text: bytes, read: Callable[[bytes], T], *, repeatable: bool = True, slow: bool = False
    ) -> None:
        self.text = _HEAD.pack(letter, len(text)) + text
        self.read = read
        self.repeatable = repeatable
        self.slow = slow


def stat_numbers(answer: bytes) -> StatNumbers:
    """Read the numbers of an answer; ValueError for anything else."""
    found = tuple(map(int, answer.split(b" ")))
    if len(found) != 12:
        raise ValueError("not 12 numbers")
    return found


def stat_question(path: bytes, *, follow: bool) -> Question[StatNumbers]:
    """The question for the attributes of a path, of a link's target with `follow`."""
    return Question(b"s" if follow else b"l", path, stat_numbers)


def read_answer(question: Question[T], answer: bytes) -> T | None:
    """The value of an answer; None: use SFTP instead. Raises StatError, ValueError if it is not an answer."""
    match answer[:1]:
        case b"=":
            return question.read(answer[1:])
        case b"-":
            return None
        case b"~":
            raise StatError(int(answer[1:]))
    raise ValueError("not an answer of the agent")
