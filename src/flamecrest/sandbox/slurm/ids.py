"""Job ids on command lines (14, 14_3, 14_[1-3], 14+1, 14.batch), as each of Slurm's commands parses them.

The commands differ; each function reproduces one command, including its leniency.
"""

from __future__ import annotations

from .formats import MAX_ARRAY_SIZE, CommandFailedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from re import Match

    from .store import StoredJob

_SCONTROL_ID = r"(\+?\d*)(?:_(\d*))?(?:\+(\d*))?"
_SCANCEL_ID = r"\s*\+?(\d+)(?:_(\*|\d*|\[[^]]*\])|\+(\d*))?"
_STEP_ID = r"\s*\+?(\d+)\.(\d*)"
_RANGE = r"(\d+)(?:-(\d+))?"
_SPACE, _DIGITS = " \t\n\r\f\v", "0123456789"
_MOST = 2**63 - 1  # the greatest C long


class JobReference:
    """A parsed id: a job number, and optionally an array task, a component of a heterogeneous job, and a step."""

    def __init__(
        self, number: int, task: int | None = None, component: int | None = None, step: str | None = None
    ) -> None:
        self.number = number
        self.task = task
        self.component = component
        self.step = step

    def means(self, job: StoredJob) -> bool:
        """Whether the id refers to the job, its array or one of its tasks. Component and step are not considered."""
        if self.task is None:
            return self.number in {job.id, job.array_job}
        return job.array_job == self.number and (self.task == job.array_task or self.task in job.pending_tasks)


def parse_squeue_ids(text: str) -> list[JobReference]:
    """Parse the ids of squeue --jobs. Unknown text after a number is ignored.

    Raises ValueError with the invalid id.
    """
    found = []
    for word in filter(None, text.split(",")):
        number, rest = _strtol(word)
        if _signed(number) <= 0:
            raise ValueError(word)
        found.append(JobReference(number, _strtol(rest[1:])[0] if rest.startswith("_") else None))
    return found


def parse_sacct_ids(text: str) -> list[JobReference]:
    """Parse the ids of sacct --jobs. The number 0 refers to every job.

    Raises CommandFailedError.
    """
    found = []
    for word in filter(None, text.split(",")):
        if not _digit(word):
            raise CommandFailedError(f"sacct: fatal: Bad job/step specified: {word}")
        whole, dot, step = word.partition(".")
        name, low, task = whole.partition("_")
        name, plus, component = (name, "", "") if low else whole.partition("+")
        for mark, part, what in (
            (dot, step, "step"),
            (low, task, "job array element"),
            (plus, component, "hetjob offset"),
        ):
            named = what == "step" and part in {"batch", "extern", "interactive"}
            if mark and not named and not _digit(part):
                raise CommandFailedError(f"sacct: fatal: Bad {what} specified: {name}")
        found.append(
            JobReference(
                _strtol(name)[0] & 0xFFFFFFFF,
                _strtol(task)[0] if low else None,
                _strtol(component)[0] if plus else None,
                (str(_strtol(step)[0]) if _digit(step) else step) if dot else None,
            )
        )
    return found


def parse_scontrol_id(text: str) -> JobReference:
    """Parse the id of scontrol show job. The number 0 refers to every job.

    Raises ValueError.
    """
    found = _fullmatch(_SCONTROL_ID, text)
    if found is None:
        raise ValueError(text)
    number, task, component = (None if part is None else _strtol(part)[0] for part in found.groups())
    return JobReference((number or 0) & 0xFFFFFFFF, task, component)


def parse_scancel_ids(words: Sequence[str]) -> list[tuple[str, JobReference, set[int] | None]]:
    """Parse the ids on scancel's command line: each with its text, and the array tasks if it names some.

    Raises CommandFailedError.
    """
    import re  # noqa: PLC0415

    texts = [text for word in words for text in re.split(r",(?![^\[]*\])", word)]
    return [(text, *_cancelled(text)) for text in texts]


def _cancelled(text: str) -> tuple[JobReference, set[int] | None]:
    if step := _fullmatch(_STEP_ID, text):
        return JobReference(int(step[1]), step=step[2] or "0"), None
    found = _fullmatch(_SCANCEL_ID, text)
    if found is None or not int(found[1]):
        raise CommandFailedError(f"scancel: error: Invalid job id {text}")
    number, tasks, component = found.groups()
    if component is not None:
        return JobReference(int(number), component=int(component or 0)), None
    if tasks is None or tasks == "*":
        return JobReference(int(number)), None
    return JobReference(int(number)), _elements(text, tasks)


def _elements(text: str, tasks: str) -> set[int]:
    """The array tasks in brackets, or the single one without brackets."""
    elements: set[int] = set()
    for part in tasks.strip("[]").split(","):
        span = _fullmatch(_RANGE, part or "0")
        if span is None:
            raise CommandFailedError(
                f"scancel: error: _parse_single_range: Invalid range: `{part}'",
                f"scancel: error: Invalid job id {text}",
            )
        elements.update(range(int(span[1]), min(int(span[2] or span[1]), MAX_ARRAY_SIZE) + 1))
    return elements


def _fullmatch(pattern: str, text: str) -> Match[str] | None:
    import re  # noqa: PLC0415 - takes as long to import as squeue runs, and squeue needs no pattern

    return re.fullmatch(pattern, text, re.ASCII)


def _digit(text: str) -> bool:
    return text[:1].isascii() and text[:1].isdecimal()


def _strtol(text: str) -> tuple[int, str]:
    """Like strtol(3): the number at the beginning of a text (0 if there is none), and the rest."""
    signed = text.lstrip(_SPACE)
    sign = signed[:1] if signed[:1] in {"+", "-"} else ""
    rest = signed[len(sign) :].lstrip(_DIGITS)
    digits = signed[len(sign) : len(signed) - len(rest)]
    if not digits:
        return 0, text
    number = int(digits[:25])  # a C long has fewer digits
    return min(number, _MOST) * (-1 if sign == "-" else 1), rest


def _signed(number: int) -> int:
    """The number converted to a C int."""
    return (number + 2**31) % 2**32 - 2**31
