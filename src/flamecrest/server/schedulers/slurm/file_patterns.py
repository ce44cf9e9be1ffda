"""The patterns in the names of a job's files (`%5j`): https://slurm.schedmd.com/sbatch.html#SECTION_FILENAME-PATTERN.

scontrol replaces some of them: up to 23.x the plain %j, %A, %a, %u and %x, later also padded ones and %%. slurmd
replaces the rest when the job starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flamecrest.server.schedulers.once.marked_paths import without_marker

_PATTERN = re.compile(r"%([0-9]*)([%A-Za-z])", re.ASCII)
_BACKSLASH = re.compile(r"\\(.?)", re.DOTALL)
_MAX_WIDTH = 10
_TEXTS = frozenset("Nsux")  # no width: they are not numeric
_EXPANDED_BY_SCONTROL = frozenset("Aabjux")
_LISTED_ID = re.compile(r"([0-9]+)(?:_([0-9]+)|_(\[).*|\+[0-9]+)?", re.DOTALL)
NO_ELEMENT = "4294967294"  # Slurm's number for %a in the paths of a whole array, and of a job that is no array


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The values of the patterns for one job. A pattern without a value stays as it is.

    `name` is the job's name, which scontrol has put in and which may hold a % itself. `expanded` is set for a scontrol
    that replaces padded patterns as well: a plain one that is left is text.
    """

    values: Mapping[str, str]
    name: str = ""
    expanded: bool = False

    def path(self, shown: str) -> str:
        """The name of the file. A backslash turns all patterns off, and is removed."""
        if "\\" in shown:
            return _BACKSLASH.sub(r"\1", shown)
        parts = shown.split(self.name) if "%" in self.name else [shown]
        return self.name.join(_PATTERN.sub(self._replace, part) for part in parts)

    def _replace(self, found: re.Match[str]) -> str:
        width, letter = found.groups()
        if letter == "%":
            return f"{width}%"
        value = self.values.get(letter)
        if value is None or (self.expanded and not width and letter in _EXPANDED_BY_SCONTROL):
            return found[0]
        return value if letter in _TEXTS else value.zfill(min(int(width or 0), _MAX_WIDTH))


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job in the output of squeue or sacct, which print the names of its files as they were given.

    `job_id` is the id that is shown (`14_[2-4]`), `raw_id` the number of the job itself.
    """

    job_id: str
    raw_id: str
    user: str
    name: str
    folder: str

    def files(self, output: str, error: str) -> tuple[str | None, str | None]:
        """The absolute paths of standard output and standard error; None if they are not known.

        The patterns of element and number stay in those of a whole array.
        """
        stdout, stderr = self._path(output), self._path(error)
        return stdout, stdout if stderr in {None, stdout} else stderr  # one text for one file

    def _path(self, given: str) -> str | None:
        found = _LISTED_ID.fullmatch(self.job_id)
        if not given or found is None:
            return None
        given = without_marker(given)
        base, element, whole = found.groups()
        if (element or whole) and given == f"{self.folder.rstrip('/')}/slurm-{self.raw_id}.out":
            given = "slurm-%A_%a.out"  # squeue up to 23.x prints the default of a job that is no array
        if "%" in given or "\\" in given:
            values = {"A": base, "n": "0", "s": "batch", "t": "0", "u": self.user, "x": self.name}
            if not whole:
                values |= {"a": element or NO_ELEMENT, "j": self.raw_id, "J": self.raw_id}
            given = JobFiles(values).path(given)
        if given.startswith("/"):
            return given
        return f"{self.folder.rstrip('/')}/{given}" if self.folder else None
