"""From the settings of authorization to an Authorizer."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from flamecrest.server.auth.authorization.by_rules import RulesAuthorizer, utc_now
from flamecrest.server.auth.authorization.claim_values import ClaimNames
from flamecrest.server.auth.authorization.composed import AllOf, AnyOf, ReportOnly
from flamecrest.server.auth.authorization.conditions import Condition
from flamecrest.server.auth.authorization.openfga import FIRECREST, ContextualTuple, OpenFgaAuthorizer, OpenFgaModel
from flamecrest.server.auth.authorization.openfga_api import SingleAddressApi, StoreApi
from flamecrest.server.auth.authorization.path_prefixes import check_prefix
from flamecrest.server.auth.authorization.rules import Effect, Rule
from flamecrest.server.auth.authorization.time_windows import TimeWindow
from flamecrest.server.auth.port import Verb
from flamecrest.server.health.guarded_openfga import GuardedApi
from flamecrest.server.settings import (
    AuthorizationSettings,
    OpenFgaSettings,
    Problem,
    RuleSettings,
    SettingsError,
    SourceLocation,
    names_store,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AsyncExitStack
    from datetime import datetime

    from flamecrest.server.auth.port import Authorizer


async def make_authorizer(
    settings: AuthorizationSettings | None,
    stack: AsyncExitStack,
    register: Callable[[str, Callable[[], Any]], None],
    asked: list[OpenFgaAuthorizer],
) -> Authorizer | None:
    """The authorizer of all clusters; None allows every operation. The stack closes its connections.

    `register` is given its counters, `asked` what asks a server. Raises SettingsError for rules that cannot be used.
    """
    if settings is None:
        return None
    authorizers: list[Authorizer] = []
    if (rules := await asyncio.to_thread(make_rules, settings)) is not None:
        authorizers.append(rules)
    if settings.url is not None:
        limits = httpx.Limits(max_connections=settings.max_connections or None, max_keepalive_connections=None)
        http = await stack.enter_async_context(httpx.AsyncClient(limits=limits, follow_redirects=False))
        openfga = _openfga(settings, settings.url, http)
        register("openfga", lambda: asdict(openfga.stats()))
        authorizers.append(openfga)
        asked.append(openfga)
    together = authorizers[0]
    if len(authorizers) > 1:
        together = AllOf(authorizers) if settings.combine == "all" else AnyOf(authorizers)
    return together if settings.mode == "enforce" else ReportOnly(together)


def make_rules(settings: AuthorizationSettings, clock: Callable[[], datetime] = utc_now) -> RulesAuthorizer | None:
    """The authorizer by rules; None if there are none. Raises SettingsError, with all rules that cannot be used."""
    given = (*settings.rules, *settings.rules_file)
    problems = [*_same_names(given), *(problem for one in given for problem in _mistakes(one))]
    if problems:
        raise SettingsError(*problems)
    try:
        names = ClaimNames(settings.role_claims, settings.group_claims)
        made = RulesAuthorizer([_rule(one) for one in given], names=names, clock=clock)
    except ValueError as error:
        raise SettingsError(Problem(SourceLocation("configuration"), "auth.authorization", str(error))) from None
    return made if given else None


def _same_names(given: Sequence[RuleSettings]) -> Iterator[Problem]:
    first: dict[str, RuleSettings] = {}
    for one in given:
        if one is not first.setdefault(one.name, one):
            hint = f"the first is at {first[one.name].place('name')}"
            yield Problem(one.place("name"), f"rule {one.name}", f"two rules are named {one.name}", hint)


def _mistakes(one: RuleSettings) -> Iterator[Problem]:
    """What cannot be used in a rule, each with the line of its field."""
    tries: list[tuple[str, Callable[[], object]]] = [
        *(("paths", partial(check_prefix, prefix)) for prefix in one.paths),
        *(("times", partial(TimeWindow.parse, text, one.timezone)) for text in one.times),
        *([] if one.when is None else [("when", partial(Condition, one.when))]),
    ]
    for field, attempt in tries:
        try:
            attempt()
        except (ValueError, RuntimeError) as error:
            yield Problem(one.place(field), f"rule {one.name}", str(error))


def _rule(one: RuleSettings) -> Rule:
    return Rule(
        name=one.name,
        effect=Effect(one.effect),
        verbs=one.verbs,
        clusters=one.clusters,
        users=one.users,
        roles=one.roles,
        groups=one.groups,
        scopes=one.scopes,
        clients=one.clients,
        issuers=one.issuers,
        claims=dict(one.claims),
        paths=one.paths,
        windows=[TimeWindow.parse(text, one.timezone) for text in one.times],
        not_before=one.not_before,
        not_after=one.not_after,
        condition=None if one.when is None else Condition(one.when),
    )


def _openfga(given: AuthorizationSettings, url: str, http: httpx.AsyncClient) -> OpenFgaAuthorizer:
    settings = given.openfga
    if settings.store is not None:
        url = f"{url.rstrip('/')}/stores/{settings.store}"
    usual, api = OpenFgaModel(), _api(settings, url, http)
    if isinstance(api, SingleAddressApi):
        usual = FIRECREST
    model = OpenFgaModel(
        settings.user,
        settings.object or usual.object,
        settings.relation or usual.relation,
        {Verb(verb): relation for verb, relation in settings.relations.items()},
        [ContextualTuple(one.claim, one.relation, one.object) for one in settings.contextual_tuples],
    )
    return OpenFgaAuthorizer(
        GuardedApi(api),
        model,
        token=settings.token.get_secret_value() if settings.token is not None else None,
        send_token=settings.send_token,
        timeout=given.timeout,
        cache_seconds=settings.cache_seconds,
    )


def _api(settings: OpenFgaSettings, url: str, http: httpx.AsyncClient) -> StoreApi | SingleAddressApi:
    if not names_store(url):
        return SingleAddressApi(url, http)
    return StoreApi(url, http, model=settings.model, consistency=settings.consistency.upper())
