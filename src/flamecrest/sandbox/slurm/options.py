"""Parse command lines like getopt_long(3), with its error messages."""

from __future__ import annotations

from .formats import CommandFailedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO, YES, MAYBE = 0, 1, 2  # whether an option takes a value


class Options:
    """The options of a program: long names with the kind of their value, and short names for some of them."""

    def __init__(
        self, program: str, names: Mapping[str, int], letters: Mapping[str, str], *, status: int = 1, hint: bool = True
    ) -> None:
        self.program = program
        self.names = names
        self.letters = letters
        self._status = status
        self._hint = (f'Try "{program} --help" for more information',) if hint else ()

    def read(self, words: Sequence[str], *, mixed: bool = False) -> tuple[dict[str, str], list[str]]:
        """Parse options. Returns the last value of each option, and the remaining arguments.

        Options end at the first other argument, unless `mixed` is set.
        """
        found: dict[str, str] = {}
        rest: list[str] = []
        todo = list(reversed(words))
        while todo:
            word = todo.pop()
            if word == "--":
                break
            if word.startswith("--"):
                self._long(word, todo, found)
            elif word.startswith("-") and word != "-":
                self._short(word[1:], todo, found)
            elif mixed:
                rest.append(word)
            else:
                todo.append(word)
                break
        return found, rest + todo[::-1]

    def _long(self, word: str, todo: list[str], found: dict[str, str]) -> None:
        given, equals, value = word[2:].partition("=")
        names = [given] if given in self.names else [name for name in self.names if name.startswith(given)]
        if not names:
            raise self._wrong(f"unrecognized option '{word}'")
        if len(names) > 1:
            possible = " ".join(f"'--{name}'" for name in names)
            raise self._wrong(f"option '{word}' is ambiguous; possibilities: {possible}")
        name = names[0]
        if equals and self.names[name] == NO:
            raise self._wrong(f"option '--{name}' doesn't allow an argument")
        if not equals and self.names[name] == YES:
            if not todo:
                raise self._wrong(f"option '--{name}' requires an argument")
            value = todo.pop()
        found.pop(name, None)
        found[name] = value

    def _short(self, letters: str, todo: list[str], found: dict[str, str]) -> None:
        while letters:
            letter, letters = letters[0], letters[1:]
            name = self.letters.get(letter)
            if name is None:
                raise self._wrong(f"invalid option -- '{letter}'")
            value = ""
            if self.names[name] != NO:
                value, letters = letters, ""
                if not value and self.names[name] == YES:
                    if not todo:
                        raise self._wrong(f"option requires an argument -- '{letter}'")
                    value = todo.pop()
            found.pop(name, None)
            found[name] = value

    def _wrong(self, text: str) -> CommandFailedError:
        return CommandFailedError(f"{self.program}: {text}", *self._hint, status=self._status)
