"""Claim rules: whom they are about, what wins, paths, times and conditions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flamecrest.server.auth.authorization.by_rules import RulesAuthorizer
from flamecrest.server.auth.authorization.claim_values import ClaimNames, claim_values
from flamecrest.server.auth.authorization.conditions import Condition
from flamecrest.server.auth.authorization.rules import Effect, Rule
from flamecrest.server.auth.authorization.time_windows import TimeWindow
from flamecrest.server.auth.port import AccessRequest, Identity, Verb
from flamecrest.server.deadline import Deadline

pytestmark = pytest.mark.anyio

WEDNESDAY = datetime(2026, 3, 4, 12, tzinfo=UTC)
DENY = Effect.DENY


def caller(user: str = "alice", *, client: str = "portal", issuer: str = "https://id", **claims: Any) -> Identity:
    return Identity(user, subject="s", issuer=issuer, client=client, claims=claims)


def judge(
    rules: list[Rule],
    identity: Identity,
    verb: Verb = Verb.FILES_READ,
    *paths: str,
    cluster: str = "daint",
    sources: tuple[str, ...] = (),
    jobs: tuple[str, ...] = (),
    tree: bool = False,
    at: datetime = WEDNESDAY,
) -> str:
    """The name of the rule that allows the request, or `not` and that of the one that denies it."""
    authorizer = RulesAuthorizer(rules, clock=lambda: at)
    decision = authorizer.judge(AccessRequest(identity, verb, cluster, paths, sources, jobs, tree))
    return decision.rule if decision.allowed else f"not {decision.rule}"


def test_what_no_rule_allows_is_denied() -> None:
    assert judge([], caller()) == "not none"
    assert judge([Rule("r", verbs=["jobs:*"])], caller()) == "not none"
    assert judge([Rule("r")], caller()) == "r"


@pytest.mark.parametrize(
    ("restriction", "matches", "other"),
    [
        ({"users": ["alice", "eve"]}, caller("alice"), caller("Alice")),
        ({"roles": ["member"]}, caller(roles=["x", "member"]), caller(roles="members")),
        ({"roles": ["member"]}, caller(realm_access={"roles": ["member"]}), caller(realm_access=["member"])),
        ({"groups": ["hpc"]}, caller(groups=["hpc"]), caller(groups=["HPC"], roles=["hpc"])),
        ({"scopes": ["jobs"]}, caller(scope="openid jobs"), caller(scope="jobsx")),
        ({"scopes": ["jobs"]}, caller(scp=["jobs"]), caller(scp=[["jobs"]])),
        ({"clients": ["portal"]}, caller(), caller(client="")),
        ({"issuers": ["https://id"]}, caller(), caller(issuer="https://id/")),
        ({"claims": {"a.b": ["1", "2"]}}, caller(a={"b": 2}), caller(a={"b": {"2": 2}})),
        ({"claims": {"vip": ["true"]}}, caller(vip=True), caller(vip=1)),
        ({"claims": {"a": ["1"], "b": ["1"]}}, caller(a=1, b=1), caller(a=1, b=2)),
        ({"roles": ["m"], "groups": ["g"]}, caller(roles=["m"], groups="g"), caller(roles=["m"])),
    ],
)
def test_lists_of_a_rule(restriction: dict[str, Any], matches: Identity, other: Identity) -> None:
    assert judge([Rule("r", **restriction)], matches) == "r"
    assert judge([Rule("r", **restriction)], other) == "not none"


def test_names_of_clients_with_dots_in_a_path_to_a_claim() -> None:
    claims: dict[str, Any] = {"resource_access": {"api.example.org": {"roles": ["admin"]}}}
    assert claim_values(claims, "resource_access.api.example.org.roles") == {"admin"}
    names = ClaimNames(roles=("resource_access.api.example.org.roles",))
    rules = RulesAuthorizer([Rule("r", roles=["admin"])], names=names)
    assert rules.judge(AccessRequest(caller(**claims), Verb.STATUS, "x")).allowed
    assert not rules.judge(AccessRequest(caller(roles=["admin"]), Verb.STATUS, "x")).allowed


@pytest.mark.parametrize(
    ("clusters", "name", "allowed"),
    [
        (["daint"], "Daint", True),
        (["dai*"], "daint", True),
        (["test-?"], "test-10", False),
        (["da[!i]nt"], "daint", False),
        (["daint"], "daint2", False),
        (["x", "daint"], "daint", True),
    ],
)
def test_clusters_by_pattern(clusters: list[str], name: str, allowed: bool) -> None:
    assert judge([Rule("r", clusters=clusters)], caller(), cluster=name) == ("r" if allowed else "not none")


@pytest.mark.parametrize("verb", Verb)
def test_verbs_by_pattern(verb: Verb) -> None:
    assert judge([Rule("r", verbs=["files:*", "status"])], caller(), verb) == (
        "r" if verb in {Verb.FILES_READ, Verb.FILES_WRITE, Verb.STATUS} else "not none"
    )


def test_a_rule_that_denies_wins_wherever_it_stands() -> None:
    rules = [Rule("all"), Rule("not eve", effect=DENY, users=["eve"]), Rule("eve", users=["eve"])]
    assert judge(rules, caller("eve")) == "not not eve"
    assert judge(rules, caller()) == "all"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/scratch/alice", True),
        ("/scratch/alice/", True),
        ("/scratch/alice/x y", True),
        ("/scratch/./alice//x", True),
        ("/scratch/alice/../alice/x", True),
        ("/scratch/alice/..", False),
        ("/scratch/alice/../bob/x", False),
        ("/scratch/alice/x/../../bob", False),
        ("/scratch/alicex", False),
        ("/scratch/Alice/x", False),
        ("/SCRATCH/alice", False),
        ("/scratch", False),
        ("/", False),
        ("//scratch/alice/x", True),
        ("scratch/alice/x", False),
        ("/scratch/alice/\0", False),
        ("/scratch/%61lice/x", False),
        ("/scratch/alice\udcff", False),
        ("", False),
    ],
)
def test_paths_below_a_prefix(path: str, allowed: bool) -> None:
    rules = [Rule("own", paths=["/scratch/{user}"])]
    assert judge(rules, caller(), Verb.FILES_READ, path) == ("own" if allowed else "not none")


def test_each_path_must_be_allowed_and_one_that_is_denied_is_enough() -> None:
    rules = [Rule("a", paths=["/a"]), Rule("b", paths=["/b"]), Rule("no", effect=DENY, paths=["/a/secret"])]
    assert judge(rules, caller(), Verb.FILES_WRITE, "/a/x", "/b/x") == "a, b"
    assert judge(rules, caller(), Verb.FILES_WRITE, "/a/x", "/c/x") == "not none"
    assert judge(rules, caller(), Verb.FILES_WRITE, "/b/x", "/a/secret/x") == "not no"
    assert judge(rules, caller(), Verb.FILES_WRITE, "/b/x", "relative") == "not no"
    assert judge(rules, caller(), Verb.FILES_READ, "/a") == "a"


@pytest.mark.parametrize("path", ["/a", "/", "/a/secret", "/a/./secret/x"])
def test_a_tree_that_holds_a_denied_folder_is_denied(path: str) -> None:
    rules = [Rule("all"), Rule("no", effect=DENY, paths=["/a/secret"])]
    assert judge(rules, caller(), Verb.FILES_READ, path, tree=True) == "not no"
    assert judge(rules, caller(), Verb.FILES_READ, "/a/secrets", tree=True) == "all"


def test_sources_need_files_read() -> None:
    rules = [Rule("w", verbs=["files:write"], paths=["/mine"]), Rule("r", verbs=["files:read"], paths=["/public"])]
    assert judge(rules, caller(), Verb.FILES_WRITE, "/mine/x", sources=("/public/x",)) == "r"
    assert judge(rules, caller(), Verb.FILES_WRITE, "/mine/x", sources=("/private/x",)) == "not none"
    assert judge(rules, caller(), Verb.FILES_WRITE, "/public/x", sources=("/public/x",)) == "not none"


def test_a_request_without_paths_is_not_restricted_by_them() -> None:
    rules = [Rule("t", verbs=["transfer"], paths=["/scratch"]), Rule("no", effect=DENY, paths=["/scratch/x"])]
    assert judge(rules, caller(), Verb.TRANSFER) == "t"


@pytest.mark.parametrize("group", ["..", ".", "a/b", "", "*", "{user}"])
def test_groups_in_prefixes_are_plain_names(group: str) -> None:
    rules = [Rule("project", paths=["/project/{group}"])]
    identity = caller(groups=[group, "/physics", "chem"])
    assert judge(rules, identity, Verb.FILES_READ, "/project/physics/x") == "project"
    assert judge(rules, identity, Verb.FILES_READ, "/project/chem") == "project"
    for path in ("/project", "/project/a/b", "/project/*", "/x", f"/project/{group}/"):
        assert judge(rules, identity, Verb.FILES_READ, path) == "not none"


@pytest.mark.parametrize("path", ["relative", "/a/", "/a/../b", "/{users}", "/a//b", "/{user", ""])
def test_a_prefix_that_cannot_be_meant_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"path begins|placeholders"):
        Rule("r", paths=[path])


@pytest.mark.parametrize(
    ("window", "zone", "inside", "outside"),
    [
        ("Mon-Fri 08:00-18:00", "UTC", "2026-03-04T08:00", "2026-03-04T18:00"),
        ("mon-fri 08:00-18:00", "UTC", "2026-03-06T17:59", "2026-03-07T12:00"),
        ("08:00-18:00", "Europe/Zurich", "2026-03-04T07:00", "2026-03-04T17:00"),
        ("08:00-18:00", "Europe/Zurich", "2026-07-01T06:00", "2026-07-01T16:00"),
        ("Fri 22:00-06:00", "UTC", "2026-03-07T05:59", "2026-03-06T05:59"),
        ("Sat,Sun 00:00-24:00", "UTC", "2026-03-08T23:59", "2026-03-09T00:00"),
        ("Saturday-Monday 00:00-24:00", "UTC", "2026-03-09T12:00", "2026-03-10T12:00"),
    ],
)
def test_time_windows(window: str, zone: str, inside: str, outside: str) -> None:
    rule = Rule("r", windows=[TimeWindow.parse(window, zone)])
    assert judge([rule], caller(), at=datetime.fromisoformat(inside).replace(tzinfo=UTC)) == "r"
    assert judge([rule], caller(), at=datetime.fromisoformat(outside).replace(tzinfo=UTC)) == "not none"


@pytest.mark.parametrize("window", ["", "Mon", "8:00-18:00", "Mon-Fry 08:00-18:00", "08:00-25:00", "Mond 08:00-09:00"])
def test_invalid_time_windows(window: str) -> None:
    with pytest.raises(ValueError, match="no time window"):
        TimeWindow.parse(window, "UTC")
    with pytest.raises(ValueError, match="time zone"):
        TimeWindow.parse("08:00-18:00", "Mars/Olympus")


def test_first_and_last_moment() -> None:
    rule = Rule("r", not_before=WEDNESDAY, not_after=WEDNESDAY.replace(hour=13))
    at = {hour: judge([rule], caller(), at=WEDNESDAY.replace(hour=hour)) for hour in (11, 12, 13)}
    assert at == {11: "not none", 12: "r", 13: "not none"}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("claims.level >= 3", True),
        ("claims.level >= 4", False),
        ("has(claims.nothing) && claims.nothing == 1", False),
        ("claims.nothing == 1", False),
        ("claims.text > 3", False),
        ("'hpc' in claims.groups && user == 'alice' && client == 'portal'", True),
        ("claims.groups.exists(g, g.startsWith('h'))", True),
        ("verb == 'files:read' && cluster == 'daint' && issuer.endsWith('id') && subject == 's'", True),
        ("path.startsWith('/a/') && job == ''", True),
        ("path == '/a/c'", False),
        ("now.getFullYear() == 2026 && now.getHours('Europe/Zurich') == 13", True),
        ("claims.big > 1", True),
        ("claims.huge > 1 && path != ''", True),
        ("has(claims.deep) && path != ''", True),
    ],
)
def test_conditions(condition: str, holds: bool) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    identity = caller(level=3, groups=["hpc"], text="x", big=2**80, huge=10**400, deep=deep)
    rule = Rule("r", condition=Condition(condition))
    assert judge([rule], identity, Verb.FILES_READ, "/a/x/../b") == ("r" if holds else "not none")


@pytest.mark.parametrize("condition", ["claims.nothing == 1", "path.matches(claims.level)", "claims.level[0] == now"])
def test_a_condition_that_cannot_be_evaluated_never_allows_and_always_denies(condition: str) -> None:
    identity = caller(level=3)
    compiled = Condition(condition)
    assert judge([Rule("r", condition=compiled)], identity) == "not none"
    assert judge([Rule("all"), Rule("no", effect=DENY, condition=compiled)], identity) == "not no"


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        ("claims.level >=", "Syntax error"),
        ("verb == 1", "no matching overload"),
        ("vreb == 'x'", "undeclared reference to 'vreb'"),
        ("path.startsWith(3)", "no matching overload"),
        ("user", "not bool"),
        ("size(path)", "not bool"),
        ("true || " * 1000 + "true", "at most 4096"),
    ],
)
def test_conditions_are_type_checked(condition: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Condition(condition)


def test_only_what_depends_on_the_request_is_decided_again() -> None:
    assert not Condition("claims.level >= 3 && verb == 'status'").per_request
    assert Condition("path == '/x'").per_request
    assert Condition("now > timestamp('2026-01-01T00:00:00Z')").per_request


def test_a_condition_on_the_job() -> None:
    rule = Rule("r", condition=Condition("job in ['1', '2']"))
    assert judge([rule], caller(), Verb.JOBS_READ, jobs=("1", "2")) == "r"
    assert judge([rule], caller(), Verb.JOBS_READ, jobs=("1", "3")) == "not none"


def test_the_decision_of_a_token_is_kept_with_the_token() -> None:
    """Two tokens of one user differ, and so do the clusters and verbs of one token."""
    rules = RulesAuthorizer([Rule("members", groups=["hpc"], clusters=["daint"], verbs=["status"])])
    member, other = caller(groups=["hpc"]), caller()
    for _ in range(2):
        assert rules.judge(AccessRequest(member, Verb.STATUS, "daint")).allowed
        assert not rules.judge(AccessRequest(other, Verb.STATUS, "daint")).allowed
        assert not rules.judge(AccessRequest(member, Verb.STATUS, "alps")).allowed
        assert not rules.judge(AccessRequest(member, Verb.TRANSFER, "daint")).allowed


NIGHT = TimeWindow.parse("22:00-06:00", "UTC")  # read while no event loop runs: it reads a file


async def test_clusters_that_a_caller_may_use() -> None:
    rules = RulesAuthorizer(
        [
            Rule("status", verbs=["status"], clusters=["daint"]),
            Rule("own", verbs=["files:*"], clusters=["alps"], paths=["/x"]),
            Rule("night", clusters=["night"], windows=[NIGHT]),
            Rule("staff", groups=["staff"]),
            Rule("closed", effect=DENY, clusters=["closed"]),
        ],
        clock=lambda: WEDNESDAY,
    )
    names = ["daint", "alps", "night", "closed", "other"]
    assert await rules.usable(caller(), names, Deadline.after(1)) == {"daint", "alps", "night"}
    assert await rules.usable(caller(groups=["staff"]), names, Deadline.after(1)) == {*names} - {"closed"}


@pytest.mark.parametrize(
    ("rules", "asked", "depends"),
    [
        ([Rule("all")], (), False),
        ([Rule("own", paths=["/x"])], ("/x",), True),
        ([Rule("own", paths=["/x"])], (), False),
        ([Rule("own", paths=["/x"], verbs=["files:write"])], ("/x",), False),
        ([Rule("own", paths=["/x"], groups=["g"])], ("/x",), False),
        ([Rule("all"), Rule("no", effect=DENY, condition=Condition("path == '/x'"))], ("/x",), True),
        ([Rule("all", condition=Condition("user == 'alice'"))], ("/x",), False),
    ],
)
def test_links_matter_only_where_paths_do(rules: list[Rule], asked: tuple[str, ...], depends: bool) -> None:
    request = AccessRequest(caller(), Verb.FILES_READ, "daint", asked)
    assert RulesAuthorizer(rules).depends_on_paths(request) is depends


def test_names_of_rules_are_unique_and_verbs_exist() -> None:
    with pytest.raises(ValueError, match="two rules are named r"):
        RulesAuthorizer([Rule("r"), Rule("r")])
    for verb in ("jobs", "files:", "*:read", "File:read", ""):
        with pytest.raises(ValueError, match="an unknown verb"):
            Rule("r", verbs=[verb])


async def test_the_account_may_differ_from_cluster_to_cluster() -> None:
    rules = RulesAuthorizer([Rule("alice", users=["alice"], paths=["/home/{user}"]), Rule("a2", users=["alice2"])])
    identity = Identity("alice", accounts={"": "alice", "alps": "alice2", "other": None})
    for cluster, user, allowed in (("daint", "alice", False), ("alps", "alice2", True)):
        request = AccessRequest(identity.on(cluster), Verb.FILES_READ, cluster, ("/home/x",))
        assert (request.identity.username, rules.judge(request).allowed) == (user, allowed)
    assert await rules.usable(identity, ["daint", "alps", "other"], Deadline.after(1)) == {"daint", "alps"}
