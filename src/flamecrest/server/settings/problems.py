"""What is wrong with a configuration, told so that it can be put right; it never holds a value that may be secret."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """Where something is written: a file (or `environment`) and the line of its key, if there is one."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where, at which key (as it is written), what is wrong and what would be right."""

    location: SourceLocation
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        parts = [str(self.location), self.key, self.message]
        text = ": ".join(part for part in parts if part)
        return f"{text} ({self.hint})" if self.hint else text


class SettingsError(Exception):
    """The configuration cannot be used; `problems` holds every mistake that was found."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class InvalidSetting(ValueError):
    """Raised by validators: what is wrong, and what would be right."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint
