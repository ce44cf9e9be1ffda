"""Settings of authorization: claim rules, OpenFGA, and how they are combined."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, TypeAdapter, ValidationError, model_validator

from flamecrest.server.settings.document import MappingNode, SequenceNode, parse
from flamecrest.server.settings.explain import explain
from flamecrest.server.settings.problems import InvalidSetting, Problem, SourceLocation
from flamecrest.server.settings.section import (
    FLAMECREST_ONLY,
    CountOrNone,
    FilledSecret,
    Kind,
    Seconds,
    SecondsOrNone,
    Section,
    Url,
    Word,
    Words,
    as_tuple,
)
from flamecrest.server.settings.shape import ExpectedValue, Loc, ShapedDocument, one_of
from flamecrest.server.settings.use import ReadBy

MAX_RULES_FILE = 4 * 1024 * 1024  # bytes
MAX_RULES_VALUES = 200_000

Verb = Literal["status", "jobs:read", "jobs:submit", "files:read", "files:write", "transfer"]


def _pattern_of_verbs(value: str) -> str:
    if value not in _VERBS:
        raise InvalidSetting("is an unknown verb", one_of(_VERBS, value))
    return value


_VERBS = (*get_args(Verb), "jobs:*", "files:*", "*")
Verbs = Annotated[
    tuple[Annotated[str, Kind("string"), AfterValidator(_pattern_of_verbs)], ...], BeforeValidator(as_tuple)
]


def _with_zone(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


Moment = Annotated[datetime, Kind("time (ISO 8601; UTC if it names no zone)"), AfterValidator(_with_zone)]


class RuleSettings(Section):
    """A claim rule. What it does not name does not restrict it; of a list, one entry is enough."""

    USE = ReadBy("server.wiring")

    name: Word = Field(description="The rule's name, for the log and the audit.", examples=["members"])
    effect: Literal["allow", "deny"] = Field(
        default="allow", description="Whether the rule allows or denies. One that denies wins over all that allow."
    )
    verbs: Verbs = Field(
        default=("*",),
        description="The kinds of operations: `status`, `jobs:read`, `jobs:submit`, `files:read`, `files:write`, "
        "`transfer`; `jobs:*` and `files:*` are both of a kind, `*` is all.",
    )
    clusters: Words = Field(default=("*",), description="Names of clusters, or patterns such as `test-*`.")
    users: Words = Field(default=(), description="Accounts on the clusters.")
    roles: Words = Field(default=(), description="Roles in the token; see `role_claims`.")
    groups: Words = Field(default=(), description="Groups in the token; see `group_claims`.")
    scopes: Words = Field(default=(), description="Scopes in the token (`scope` or `scp`).")
    clients: Words = Field(default=(), description="OAuth 2.0 clients that the token was issued to (`azp`).")
    issuers: Words = Field(default=(), description="Issuers of the token (`iss`).")
    claims: Mapping[str, Words] = Field(
        default_factory=dict,
        description="Values of other claims, by the claim's name or its dotted path. All of these claims must match.",
        examples=[{"department": ["physics", "chemistry"]}],
    )
    paths: Words = Field(
        default=(),
        description="Folders, with everything below them. `{user}` stands for the account, `{group}` for each of the "
        "caller's groups.",
        examples=[["/scratch/{user}", "/project/{group}"]],
    )
    when: Word | None = Field(
        default=None,
        description="A condition in the Common Expression Language. Variables: `claims`, `user`, `subject`, "
        "`issuer`, `client`, `verb`, `cluster`, `path`, `job`, `now`. Needs the extra `cel`.",
        examples=["claims.level >= 3"],
    )
    times: Words = Field(
        default=(), description="Days and hours in which the rule applies.", examples=[["Mon-Fri 08:00-18:00"]]
    )
    timezone: Word = Field(default="UTC", description="The time zone of `times`.", examples=["Europe/Zurich"])
    not_before: Moment | None = Field(default=None, description="The rule applies from this time on.")
    not_after: Moment | None = Field(default=None, description="The rule applies until this time.")

    _lines: Mapping[str, SourceLocation] = PrivateAttr(default_factory=dict)

    def place(self, field: str) -> SourceLocation:
        """The file and line of a field or, if it is not written, of the rule."""
        return self._lines.get(field) or self._lines.get("") or SourceLocation("configuration")

    def found_at(self, reading: ShapedDocument, loc: Loc) -> None:
        """Note where the rule is written, for the errors of later steps. `loc` is its location in the document."""
        fields = {name: reading.locations.get((*loc, name)) for name in type(self).model_fields}
        lines = {name: spot.location for name, spot in {"": reading.locations.get(loc), **fields}.items() if spot}
        self._lines = lines


class ContextualTupleSettings(Section):
    """Relations that a claim of the token states, for one request, without being stored in OpenFGA."""

    USE = ReadBy("server.wiring")

    claim: Word = Field(description="The claim's name or its dotted path.", examples=["groups"])
    relation: Word = Field(description="The relation of the user to the object.", examples=["member"])
    object: Word = Field(description="The object; `{value}` is a value of the claim.", examples=["group:{value}"])


class OpenFgaSettings(Section):
    """What the OpenFGA server is asked, and how."""

    USE = ReadBy("server.wiring")

    store: Word | None = Field(
        default=None, description="The id of the store, if `url` does not name it.", json_schema_extra=FLAMECREST_ONLY
    )
    model: Word | None = Field(
        default=None,
        description="The id of the authorization model. Not set: the latest of the store.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    token: FilledSecret | None = Field(
        default=None,
        description="The API token of the gateway. Not set: the caller's token is sent, unless `send_token` is false.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    send_token: bool = Field(
        default=True,
        description="Send the caller's token to the server if `token` is not set.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    user: Word = Field(
        default="user:{user}",
        description="The user in a check; `{user}` is the account, `{subject}` the claim `sub`.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    object: Word | None = Field(
        default=None,
        description="The object in a check; `{cluster}` is the name of the cluster. Not set: `system:{cluster}` or, "
        "without a store, `vcluster:{cluster}`, as in FirecREST.",
        examples=["system:{cluster}"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    relation: Word | None = Field(
        default=None,
        description="The relation that is checked for verbs that are not in `relations`. Not set: `can_access` or, "
        "without a store, `member`, as in FirecREST.",
        examples=["can_access"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    relations: Mapping[Verb, Word] = Field(
        default_factory=dict,
        description="The relation that is checked, by verb.",
        examples=[{"jobs:submit": "can_submit", "files:write": "can_write"}],
        json_schema_extra=FLAMECREST_ONLY,
    )
    contextual_tuples: tuple[ContextualTupleSettings, ...] = Field(
        default=(),
        description="Relations that the token's claims state, sent with each check; up to 100 together.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    consistency: Literal["minimize_latency", "higher_consistency"] = Field(
        default="minimize_latency",
        description="Whether the server may answer from its own cache.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    cache_seconds: SecondsOrNone = Field(
        default=10,
        description="How long an answer is used again. A change in OpenFGA takes effect after this time; 0: at once.",
        json_schema_extra=FLAMECREST_ONLY,
    )


_OF_A_STORE = ("model", "contextual_tuples", "consistency")


def names_store(url: str) -> bool:
    """Whether an address is that of a store in an OpenFGA server."""
    return "/stores/" in urlsplit(url).path


_RULES = TypeAdapter(tuple[RuleSettings, ...])


def _read_rules(value: Any) -> Any:
    """The rules in a file: a list, or a mapping with the key `rules`."""
    if not isinstance(value, str | Path):
        return value
    try:
        with Path(value).expanduser().open("rb") as stream:
            data = stream.read(MAX_RULES_FILE + 1)
        if len(data) > MAX_RULES_FILE:
            raise InvalidSetting(f"the file {value} is larger than {MAX_RULES_FILE} bytes")
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidSetting(f"the file {value} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidSetting(f"the file {value} is not UTF-8 text") from None
    problems: list[Problem] = []
    found = parse(text, SourceLocation(str(value)), problems, most=MAX_RULES_VALUES)
    rules = found.entries.get("rules") if isinstance(found, MappingNode) else found
    if not isinstance(rules, SequenceNode):
        no_list = f"the file {value} has no list of rules"
        raise InvalidSetting(no_list, "rules: [{name: …}]", tuple(problems))
    return _rules_of_file(rules, problems)


def _rules_of_file(rules: SequenceNode, problems: list[Problem]) -> tuple[RuleSettings, ...]:
    reading = ShapedDocument(problems, rules.location)
    rule = ExpectedValue(None, Section, variants=(RuleSettings,))
    plain = [reading.shape(node, rule, (at,), f"rules[{at}]") for at, node in enumerate(rules.entries)]
    try:
        made = _RULES.validate_python(plain)
    except ValidationError as error:
        problems += explain(error, reading)
    if problems:
        raise InvalidSetting("has mistakes", problems=tuple(problems))
    for at, one in enumerate(made):
        one.found_at(reading, (at,))
    return made


RulesFile = Annotated[tuple[RuleSettings, ...], Kind("path of a file"), BeforeValidator(_read_rules)]


class AuthorizationSettings(Section):
    """Who may do what. FirecREST has the keys of OpenFGA (`url`, `timeout`, `max_connections`) in this section."""

    USE = ReadBy("server.wiring")

    mode: Literal["enforce", "report"] = Field(
        default="enforce",
        description="`report` allows everything and logs what would be denied (`would be denied`).",
        json_schema_extra=FLAMECREST_ONLY,
    )
    combine: Literal["all", "any"] = Field(
        default="all",
        description="Whether rules and OpenFGA must both allow a request, or one of them. A rule that denies always "
        "wins.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    rules: tuple[RuleSettings, ...] = Field(
        default=(),
        description="Claim rules. What none of them allows is denied.",
        examples=[[{"name": "members", "groups": ["hpc"]}]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    rules_file: RulesFile = Field(
        default=(),
        description="A YAML file with more rules. It is read at the start.",
        examples=["/etc/flamecrest/rules.yaml"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    role_claims: Words = Field(
        default=("roles", "realm_access.roles"),
        description="The claims with roles; add `resource_access.CLIENT.roles` for Keycloak's roles of a client.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    group_claims: Words = Field(
        default=("groups",), description="The claims with groups.", json_schema_extra=FLAMECREST_ONLY
    )
    resolve_links: bool = Field(
        default=True,
        description="Resolve symbolic links in paths before rules about paths decide, with one question to the "
        "cluster. Without it such rules hold for paths as they are written.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    url: Url | None = Field(
        default=None,
        description="The address of the store of an OpenFGA server, or of the server if `openfga.store` is set. Any "
        "other address is asked as FirecREST does: it is sent `user`, `relation` and `object`.",
        examples=["https://fga.example.org/stores/01ARZ3"],
    )
    timeout: Seconds = Field(default=1, description="The timeout of a request to OpenFGA.")
    max_connections: CountOrNone = Field(default=100, description="The maximum number of connections to OpenFGA.")
    openfga: OpenFgaSettings = Field(
        default_factory=OpenFgaSettings,
        description="What the OpenFGA server is asked, and how.",
        json_schema_extra=FLAMECREST_ONLY,
    )

    @model_validator(mode="after")
    def _decides(self) -> AuthorizationSettings:
        if not self.rules and not self.rules_file and self.url is None:
            raise InvalidSetting("has neither rules nor the `url` of an OpenFGA server", "add `rules`")
        if self.url is None and self.openfga != OpenFgaSettings():
            raise InvalidSetting("has `openfga` without the `url` of the server", "set `url`")
        if self.url is not None and names_store(self.url) and self.openfga.store is not None:
            raise InvalidSetting("names the store twice", "remove `openfga.store`, or `/stores/ID` from `url`")
        if self.url is not None and not names_store(self.url) and self.openfga.store is None:
            given = [name for name in _OF_A_STORE if name in self.openfga.model_fields_set]
            if given:
                raise InvalidSetting(f"has `openfga.{given[0]}` without a store", "set `openfga.store`")
        return self
