"""Messages of `/tokens`: tokens of the gateway that can do less than the caller's."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .casing import WireModel
from .units import Integer

MAX_LIMITS = 100  # of each kind in one token
MAX_USES = 10_000
LONGEST = 365 * 24 * 3600  # seconds

TokenVerb = Literal["status", "jobs:read", "jobs:submit", "files:read", "files:write", "transfer"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
Prefix = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^/")]


class TokenRequest(WireModel):
    """The limits of a new token. Without clusters, paths, jobs or uses there is no limit of that kind.

    Unknown fields and empty lists are refused: they are more likely mistakes than the wish for no limit.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    verbs: list[TokenVerb] = Field(min_length=1, max_length=6, description="What the token may do")
    clusters: list[Name] = Field(default=[], min_length=1, max_length=MAX_LIMITS, description="Names of systems")
    paths: list[Prefix] = Field(
        default=[],
        min_length=1,
        max_length=MAX_LIMITS,
        description="Absolute paths: files there and below can be used. Not together with `jobs:submit`",
    )
    job_ids: list[Name] = Field(
        default=[],
        min_length=1,
        max_length=MAX_LIMITS,
        description="Jobs that can be seen or changed; others cannot, nor submitted",
    )
    lifetime: Integer = Field(
        default=3600, ge=1, le=LONGEST, description="Seconds until the token expires; the operator sets a limit"
    )
    uses: Annotated[Integer, Field(ge=1, le=MAX_USES)] | None = Field(
        default=None, description="Number of requests; default: any"
    )
    description: Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")] = Field(
        default="", description="Shown in the list of tokens"
    )


class TokenInfo(WireModel):
    """A token. Times are in seconds since the epoch."""

    id: str
    description: str
    verbs: list[TokenVerb]
    clusters: list[str]
    paths: list[str]
    job_ids: list[str]
    created: int
    expires: int
    uses: int | None
    used: int
    revoked: bool


class CreatedToken(TokenInfo):
    """A new token. The gateway does not show it again."""

    token: str = Field(
        description="For the header `Authorization: Bearer …`; bound to a key if the caller's own token is"
    )


class TokenList(WireModel):
    """The caller's tokens that have not expired, the newest first."""

    tokens: list[TokenInfo]
