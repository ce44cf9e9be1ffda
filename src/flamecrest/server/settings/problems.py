"""What is wrong with a configuration, told so that it can be put right; it never holds a value that may be secret."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written: a file (or `environment`) and the line of its key, if there is one."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where, at which key (as it is written), what is wrong and what would be right."""

    place: Place
    key: str
    wrong: str
    right: str = ""

    def __str__(self) -> str:
        parts = [str(self.place), self.key, self.wrong]
        text = ": ".join(part for part in parts if part)
        return f"{text} ({self.right})" if self.right else text


class SettingsError(Exception):
    """The configuration cannot be used; `problems` holds every mistake that was found."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class Mistake(ValueError):
    """Raised by validators: what is wrong, and what would be right."""

    def __init__(self, wrong: str, right: str = "") -> None:
        super().__init__(f"{wrong} ({right})" if right else wrong)
        self.wrong = wrong
        self.right = right
