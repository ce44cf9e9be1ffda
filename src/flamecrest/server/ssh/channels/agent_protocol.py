"""The questions that the agent answers and the format of its answers. Pure: bytes in, values out."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# dev ino mode nlink uid gid rdev size atime mtime ctime, and the nanoseconds of mtime's fraction (a double's worth of
# them: the same number for the same file from the agent and from `stat`; 0: only the second is known)
StatNumbers = tuple[int, ...]


_HEAD = struct.Struct(">cI")


class StatError(Exception):
    """stat(2) failed with this errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


class Question(Generic[T]):
    """What the agent is asked: a letter and what belongs to it; how its answer is read, and whether to ask again.

    `read` raises ValueError for what is no answer of our agent. A `slow` one is sent when few of its kind are under
    way, and shares its answer with those of the same text: that has to say all that `read` goes by.
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
    """The numbers of an answer; ValueError for anything else."""
    found = tuple(map(int, answer.split(b" ")))
    if len(found) != 12:
        raise ValueError("not 12 numbers")
    return found


def stat_question(path: bytes, *, follow: bool) -> Question[StatNumbers]:
    """Ask for the attributes of a path."""
    return Question(b"s" if follow else b"l", path, stat_numbers)


def read_answer(question: Question[T], answer: bytes) -> T | None:
    """What an answer says; None: ask by another way. Raises StatError, and ValueError for what is no answer."""
    match answer[:1]:
        case b"=":
            return question.read(answer[1:])
        case b"-":
            return None
        case b"~":
            raise StatError(int(answer[1:]))
    raise ValueError("no answer of the agent")
