"""Errors about jobs that every scheduler raises in the same words."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Field, GatewayError, Invalid, NotFound, Timeout, Unavailable, Upstream

if TYPE_CHECKING:
    from .array_elements import ArrayElements

_MAX_TEXT: Final = 1000  # characters of a message that callers are shown
REFUSED_FIELD: Final = "The scheduler refuses it"  # of a field; its own words are the message of the error
MAYBE_SUBMITTED: Final = "The job may have been submitted. Check your jobs before you submit it again."


def job_not_found(detail: str) -> NotFound:
    """The error for an unknown job. Clients search for "Job not found"; `detail` is an id or a scheduler's message."""
    return NotFound(f"Job not found: {detail}")


def one_line(text: str) -> str:
    """A program's message as one line without control characters, cut at 1000 characters."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())[:_MAX_TEXT]


class UnclearSubmission(GatewayError):
    """The job may have been submitted: the scheduler's answer was lost. Its text ends with MAYBE_SUBMITTED."""

    def with_advice(self, text: str) -> GatewayError:
        """The same error with one more sentence."""
        return type(self)(f"{self.public} {text}", detail=self.detail)


class SubmissionTimeout(Timeout, UnclearSubmission):
    """The submission did not answer in time."""


class SubmissionLost(Upstream, UnclearSubmission):
    """The submission ended without an answer that can be understood."""


class ElementsLeftOut(GatewayError):
    """The scheduler has left out these elements of an array, and says nothing of others, which it may have changed.

    `error` is to be raised if there are no others.
    """

    def __init__(self, error: GatewayError, elements: ArrayElements) -> None:
        super().__init__(error.public)
        self.error = error
        self.elements = elements


def scheduler_unavailable(message: str, detail: str | None = None) -> Unavailable:
    """The error for a scheduler that does not answer this request."""
    return Unavailable(f"The scheduler does not answer: {message}", detail=detail)


def scheduler_down(message: str, detail: str | None = None) -> Unavailable:
    """The error for a scheduler that answers no user."""
    error = scheduler_unavailable(message, detail)
    error.answers_nobody = True
    return error


class NotRecordedYet(Unavailable):
    """A search for a job is not certain yet: the accounting gets jobs some seconds late, or when they can start."""

    retry_after = 3.0

    def __init__(self) -> None:
        super().__init__("A job that may be the same is in the queue, and not in the scheduler's accounting yet")


class DoubtfulAnswer(Upstream):
    """The scheduler's program has printed what may be the id of the job; a search for the job decides.

    `likely` is the id that is right, or the error that is to be raised, if the search finds no job.
    """

    def __init__(self, likely: str | GatewayError) -> None:
        super().__init__("The scheduler's answer to the submission can be understood in two ways")
        self.likely = likely


def maybe_submitted(error: GatewayError) -> UnclearSubmission:
    """The error of a submission whose answer was lost. What was too large is the scheduler's answer."""
    kind = SubmissionTimeout if isinstance(error, Timeout) else SubmissionLost
    return kind(f"{error.public}. {MAYBE_SUBMITTED}", detail=error.detail)


class Refusal(StrEnum):
    """What a scheduler refuses a job, or a change of a job, for. Clients see it beside the scheduler's own words."""

    PARTITION = "unknownPartition"
    PARTITION_DOWN = "partitionUnavailable"
    ACCOUNT = "unknownAccount"
    QOS = "unknownQos"
    RESERVATION = "unknownReservation"
    PERMISSION = "notPermitted"  # to use the partition, the reservation or the account
    QUOTA = "quota"  # a limit of the account, of the quality of service or of the queue
    TIME_LIMIT = "invalidTimeLimit"
    TIME = "invalidTime"  # `begin` or `deadline`
    RESOURCES = "impossibleResources"
    FEATURES = "unknownFeatures"
    LICENSES = "unknownLicenses"
    DEPENDENCIES = "invalidDependencies"
    ARRAY = "invalidArray"
    SIGNAL = "invalidSignal"
    SCRIPT = "invalidScript"
    OPTION = "invalidOption"  # of the script's directives, or in `native`


# Kind, the fields of a job (by their names on the wire) that it is about, and the words that are looked for.
Refusals = tuple[tuple[Refusal, tuple[str, ...], tuple[str, ...]], ...]


def refused(message: str, known: Refusals, given: Collection[str] = (), *, detail: str | None = None) -> Invalid:
    """The error for a job that the scheduler refuses with `message`: the first row of `known` whose words are in it.

    `given` are the fields of the request; those that the refusal is about are named, without the message once more.
    """
    kind, fields = _row(message.casefold(), known)
    named = tuple(Field("body", name, REFUSED_FIELD) for name in fields if name in given)
    return Invalid(message, detail=detail, fields=named, refusal=kind)


def refusal_kind(message: str, known: Refusals) -> Refusal | None:
    """The kind of refusal that the scheduler's message tells of; None if it is not known."""
    return _row(message.casefold(), known)[0]


def _row(message: str, known: Refusals) -> tuple[Refusal | None, Iterable[str]]:
    for kind, fields, phrases in known:
        if any(phrase.casefold() in message for phrase in phrases):
            return kind, fields
    return None, ()


class AskAgain(Upstream):
    """The answer of a program cannot be used. The dialect has noted why, and asks in another way now."""


class WindowTooWide(Invalid):
    """The accounting database refuses to search that long a time. `words` is its message."""

    def __init__(self, words: str) -> None:
        message = f"the accounting database refuses to search that long a time ({words}); ask for a smaller window"
        super().__init__(f"time_window: {message}", fields=(Field("query", "time_window", message),))
        self.words = words
