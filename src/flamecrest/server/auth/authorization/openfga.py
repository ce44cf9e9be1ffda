"""Authorizer by relations in an OpenFGA server, with a short cache of its answers.

What the server does not answer is denied as unavailable. It knows no rules and no paths: objects are clusters.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from flamecrest.server.auth.port import Decision, Verb, accounts_on
from flamecrest.server.errors import Unavailable

from .claim_values import claim_values
from .openfga_api import Check, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flamecrest.server.auth.port import AccessRequest, Identity
    from flamecrest.server.deadline import Deadline

    from .openfga_api import OpenFgaApi

MAX_ANSWERS: Final = 20_000  # in the cache
MAX_TUPLES: Final = 100  # contextual tuples of a request: the server's limit
PROBE_USER: Final = "flamecrest-probe"
_ID: Final = re.compile(r"[^\s:#*]{1,200}")


@dataclass(frozen=True, slots=True)
class ContextualTuple:
    """A relation of the user to an object that each value of a claim states. `{value}` in `object` is the value."""

    claim: str
    relation: str
    object: str


@dataclass(frozen=True, slots=True)
class OpenFgaModel:
    """How users, clusters and verbs are named in the store.

    `user` may have `{user}` (the account) and `{subject}`, `object` has `{cluster}`. `relation` is that of verbs that
    are not in `relations`.
    """

    user: str = "user:{user}"
    object: str = "system:{cluster}"
    relation: str = "can_access"
    relations: Mapping[Verb, str] = field(default_factory=dict)
    tuples: Sequence[ContextualTuple] = ()

    def relation_of(self, verb: Verb) -> str:
        """The relation that is checked for a verb."""
        return self.relations.get(verb, self.relation)


FIRECREST: Final = OpenFgaModel(object="vcluster:{cluster}", relation="member")  # what FirecREST asks for


@dataclass(frozen=True, slots=True)
class OpenFgaStats:
    """Counters of an OpenFgaAuthorizer."""

    checks: int  # answers that were needed
    cached: int  # of these, from the cache
    requests: int  # to the server
    failures: int  # of these, without a usable answer


@dataclass(slots=True)
class _Answers:
    """What is known for the items of one call."""

    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    known: dict[Check, bool] = field(default_factory=dict)
    failure: Unavailable | None = None


class OpenFgaAuthorizer:
    """Asks an OpenFGA server.

    api: how it is asked.
    token: API token of the gateway; None: the caller's token is sent if `send_token`.
    timeout: seconds for a request, connecting included.
    cache_seconds: how long an answer is used again; 0: never.
    """

    def __init__(
        self,
        api: OpenFgaApi,
        model: OpenFgaModel,
        *,
        token: str | None = None,
        send_token: bool = True,
        timeout: float = 1.0,
        cache_seconds: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._model = model
        self._token = token
        self._send_token = send_token
        self._timeout = timeout
        self._cache_seconds = cache_seconds
        self._monotonic = monotonic
        self._answers: OrderedDict[Check, tuple[float, bool]] = OrderedDict()
        self._checks = self._cached = 0

    def stats(self) -> OpenFgaStats:
        """The counters as of now."""
        return OpenFgaStats(self._checks, self._cached, self._api.requests, self._api.failures)

    async def decide(self, request: AccessRequest, deadline: Deadline) -> Decision:
        """See Authorizer."""
        questions = [self._question(request.identity, request.cluster, verb) for verb, _ in request.needs()]
        answers = await self._ask_once(request, questions, deadline)
        denied = next((one for one in questions if not answers[one]), None)
        asked = denied or questions[0]
        rule = f"openfga:{asked.relation}"
        if denied is None:
            return Decision(allowed=True, rule=rule)
        return Decision(
            allowed=False, rule=rule, reason=f"{asked.user} has no relation {asked.relation} to {asked.object}"
        )

    def depends_on_paths(self, request: AccessRequest) -> bool:  # noqa: ARG002 -- never
        """See Authorizer."""
        return False

    async def usable(self, identity: Identity, clusters: Sequence[str], deadline: Deadline) -> frozenset[str]:
        """See Authorizer."""
        accounts = accounts_on(identity, clusters)
        asked = {(name, verb): self._question(one, name, verb) for name, one in accounts.items() for verb in Verb}
        answers = await self._ask(identity, list(dict.fromkeys(asked.values())), deadline)
        return frozenset(cluster for (cluster, _), question in asked.items() if answers[question])

    @property
    def can_be_probed(self) -> bool:
        """Whether the server can be asked without a user's token."""
        return self._token is not None or not self._send_token

    async def check(self, cluster: str, deadline: Deadline) -> None:
        """Ask about a user who has no relations, as requests do, and not from the cache. Raises Unavailable."""
        user = self._model.user.replace("{user}", PROBE_USER).replace("{subject}", PROBE_USER)
        question = Check(user, self._model.relation, self._model.object.replace("{cluster}", cluster))
        try:
            await self._api.ask([question], self._token or "", deadline.left())
        except Unavailable as error:  # for operators; users are not told why
            raise Unavailable(error.detail or error.public) from error

    def _question(self, identity: Identity, cluster: str, verb: Verb) -> Check:
        key = (self, identity.username)  # the account may differ from cluster to cluster
        names = identity.memo.get(key)
        if names is None:
            identity.memo[key] = names = self._names(identity)
        user, tuples = names
        return Check(user, self._model.relation_of(verb), self._model.object.replace("{cluster}", cluster), tuples)

    def _names(self, identity: Identity) -> tuple[str, tuple[tuple[str, str], ...]]:
        """The user, and what the claims state. Raises Unavailable for a subject that OpenFGA cannot hold."""
        user = self._model.user.replace("{user}", identity.username)
        if "{subject}" in user:
            if _ID.fullmatch(identity.subject) is None:
                raise unavailable("the subject of the token cannot be the id of a user")
            user = user.replace("{subject}", identity.subject)
        stated = [
            (one.relation, one.object.replace("{value}", value))
            for one in self._model.tuples
            for value in sorted(claim_values(identity.claims, one.claim))
            if _ID.fullmatch(value)
        ]
        return user, tuple(dict.fromkeys(stated))[:MAX_TUPLES]

    async def _ask_once(
        self, request: AccessRequest, questions: Sequence[Check], deadline: Deadline
    ) -> Mapping[Check, bool]:
        """The answers; the items of a bulk call, which are decided about at the same time, share one request for them.

        So they do if answers are not kept, and if there is none: the server is not asked again for each item.
        """
        if request.memo is None:
            return await self._ask(request.identity, questions, deadline)
        found: _Answers = request.memo.setdefault(self, _Answers())
        async with found.asking:
            if found.failure is not None:
                raise found.failure
            missing = [one for one in questions if one not in found.known]
            if missing:
                try:
                    found.known |= await self._ask(request.identity, missing, deadline)
                except Unavailable as error:
                    found.failure = error
                    raise
        return found.known

    async def _ask(self, identity: Identity, questions: Sequence[Check], deadline: Deadline) -> Mapping[Check, bool]:
        """The answers, from the cache or the server. Raises Unavailable."""
        now = self._monotonic()
        found: dict[Check, bool] = {}
        for question in questions:
            kept = self._answers.get(question)
            if kept is not None and now < kept[0]:
                found[question] = kept[1]
        missing = [one for one in dict.fromkeys(questions) if one not in found]
        self._checks += len(questions)
        self._cached += len(questions) - len(missing)
        if missing:
            token = self._token or (identity.token if self._send_token else "")
            answers = await self._api.ask(missing, token, min(self._timeout, deadline.left()))
            self._keep(answers, now)
            found.update(answers)
        return found

    def _keep(self, answers: Mapping[Check, bool], now: float) -> None:
        if self._cache_seconds <= 0:
            return
        for question, answer in answers.items():
            self._answers[question] = (now + self._cache_seconds, answer)
            self._answers.move_to_end(question)
        while len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)
