"""Errors in a configuration, with their locations and hints. They never contain values that may be secret."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A file (or environment variable) and the line of a key, if it has one."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One error: its location, the key as written, what is wrong, and how to fix it."""

    location: SourceLocation
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        parts = [str(self.location), self.key, self.message]
        text = ": ".join(part for part in parts if part)
        return f"{text} ({self.hint})" if self.hint else text


class SettingsError(Exception):
    """The configuration is invalid; `problems` has all errors."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class InvalidSetting(ValueError):
    """Raised by validators: what is wrong, and how to fix it. `problems` has the errors in a file that was read."""

    def __init__(self, message: str, hint: str = "", problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint
        self.problems = problems
