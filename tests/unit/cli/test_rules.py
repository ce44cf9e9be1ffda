"""`flamecrest explain` and `flamecrest rules test`, over a real token issuer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import yaml
from anyio.from_thread import start_blocking_portal
from typer.testing import CliRunner, Result

from flamecrest.cli.main import app
from flamecrest.sandbox.issuer import Issuer
from flamecrest.server.auth.narrow.restriction import Restriction
from flamecrest.server.auth.narrow.store import TokenFolder
from flamecrest.server.auth.narrow.tokens import NarrowTokens
from flamecrest.server.auth.port import Identity, Verb

RULES = [
    {"name": "own", "groups": ["hpc"], "verbs": ["files:*"], "paths": ["/home/{user}"]},
    {"name": "status", "verbs": ["status"], "clusters": ["dai*"]},
    {"name": "day", "verbs": ["jobs:submit"], "times": ["Mon-Fri 08:00-18:00"], "timezone": "Europe/Zurich"},
    {"name": "secret", "effect": "deny", "paths": ["/home/alice/secret"]},
]
CONFIG = """\
auth:
  authentication: {{issuer: {issuer}, audience: {audience}}}
  authorization: {authorization}
ssh_credentials: {{keys: {{alice: {{private_key: a key}}}}}}
clusters:
  - name: daint
    ssh: {{host: login.example.org}}
    scheduler: {{type: slurm, version: 24.05.4}}
    file_systems: [{{path: /home, data_type: users}}]
"""


def write_config(
    folder: Path, authorization: object, issuer: str = "https://id.example.org", audience: str = "x"
) -> Path:
    path = folder / "gateway.yaml"
    given = yaml.safe_dump(authorization, default_flow_style=True, width=10_000).strip()
    path.write_text(CONFIG.format(issuer=issuer, audience=audience, authorization=given))
    return path


def run(*args: str | Path, text: str | None = None) -> Result:
    result = CliRunner().invoke(app, [str(one) for one in args], input=text)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize(
    ("request_", "status", "lines"),
    [
        (["files:read", "daint", "/home/alice/x"], 0, ["decision  allowed", "rule      own", "links "]),
        (["files:read", "DAINT", "/home/bob"], 1, ["request   files:read on daint /home/bob", "decision  denied"]),
        (["files:write", "daint", "/home/alice", "--tree"], 1, ["rule      secret", "reason    the rule denies it"]),
        (["status", "daint"], 0, ["caller    alice (subject ", "rule      status"]),
        (["jobs:read", "daint", "--job", "12"], 1, ["request   jobs:read on daint job 12", "no rule allows it"]),
        (["jobs:all", "daint"], 2, ["'jobs:all' is an unknown verb"]),
        (["files:reed", "daint"], 2, ["did you mean files:read?"]),
        (["files:read", "daint", "home/alice"], 2, ["'home/alice': `path` must be an absolute path"]),
        (["files:read", "daint", "/etc/passwd"], 2, ["'/etc/passwd': `path` is outside the file systems of this"]),
        (["status", "daimt"], 2, ["'daimt' is an unknown cluster (did you mean daint?"]),
    ],
)
def test_explain(tmp_path: Path, request_: list[str], status: int, lines: list[str]) -> None:
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(Issuer({})) as issuer:
        config = write_config(tmp_path, {"rules": RULES}, issuer.url, issuer.audience)
        token = tmp_path / "token"
        token.write_text(f"Bearer {issuer.mint('alice', groups=['hpc'])}\n")
        result = run("explain", *request_, "--token-file", token, "--config", config)
        assert (result.exit_code, [line for line in lines if line not in result.output]) == (status, []), result.output
        assert token.read_text().split(".")[2].strip() not in result.output


def test_explain_needs_a_valid_token(tmp_path: Path) -> None:
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(Issuer({})) as issuer:
        config = write_config(tmp_path, {"rules": RULES}, issuer.url, issuer.audience)
        for token, message in {
            issuer.mint("alice", expires=-100): "expired",
            "": "no token",
            "x.y.z": "invalid",
        }.items():
            result = run("explain", "status", "daint", "--config", config, text=token)
            assert (result.exit_code, message in result.output) == (1, True), result.output


def test_explain_leaves_no_trace(tmp_path: Path) -> None:
    """It writes no audit record, and no use of a token of the gateway is counted."""
    used, key, log = tmp_path / "tokens", "k" * 32, tmp_path / "audit.jsonl"
    more = f"audit: {{file: {log}}}\n"
    tokens = NarrowTokens(TokenFolder(used), key.encode(), longest=3600, most=5)
    once = Restriction(frozenset({Verb.STATUS}))
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(Issuer({})) as issuer:
        config = write_config(tmp_path, {"rules": RULES}, issuer.url, issuer.audience)
        narrow = f"auth:\n  tokens: {{folder: {used}, signing_key: {key}}}\n"
        config.write_text(more + config.read_text().replace("auth:\n", narrow))
        issue = partial(tokens.issue, Identity("alice"), once, life=600, uses=1, description="")
        _, token = portal.call(issue)
        for _ in range(2):
            assert run("explain", "status", "daint", "--config", config, text=token).exit_code == 0
        portal.call(tokens.identity, token)
        result = run("explain", "status", "daint", "--config", config, text=token)
    assert (result.exit_code, "All 1 uses" in result.output, log.exists()) == (1, True, False), result.output


DECISIONS: list[dict[str, object]] = [
    {"user": "alice", "claims": {"groups": ["hpc"]}, "verb": "files:read", "cluster": "daint", "path": "/home/alice/x",
     "expect": "allow", "rule": "own"},
    {"user": "alice", "verb": "files:read", "cluster": "daint", "path": "/home/alice/x", "expect": "deny"},
    {"user": "a", "verb": "jobs:submit", "cluster": "x", "at": "2026-03-04T07:00:00Z", "expect": "allow"},
    {"user": "a", "verb": "jobs:submit", "cluster": "x", "at": "2026-03-04 18:00:00", "expect": "deny"},
    {"name": "tree", "user": "alice", "claims": {"groups": ["hpc"]}, "verb": "files:write", "cluster": "daint",
     "path": "/home/alice", "tree": True, "expect": "deny", "rule": "secret"},
]  # fmt: skip


def test_a_table_of_decisions(tmp_path: Path) -> None:
    config, table = write_config(tmp_path, {"rules": RULES}), tmp_path / "expected.yaml"
    table.write_text(yaml.safe_dump({"decisions": DECISIONS}))
    result = run("rules", "test", table, "--config", config)
    assert (result.exit_code, "5 decisions, 0 not as expected" in result.output) == (0, True), result.output

    wrong = [{**DECISIONS[0], "expect": "deny"}, {**DECISIONS[4], "rule": "own"}]
    table.write_text(yaml.safe_dump(wrong))
    result = run("rules", "test", table, "--config", config)
    assert result.exit_code == 1
    assert "1: expected deny by own, found allow by own" in result.output
    assert "2 (tree): expected deny by own, found deny by secret: the rule denies it" in result.output
    assert "2 decisions, 2 not as expected" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "has no list of decisions"),
        ("decisions: 3", "has no list of decisions"),
        ("[{user: a, verb: run, cluster: x, expect: allow}]", "row 1: verb"),
        ("[{user: a, verb: status, cluster: x, expect: allow, usr: b}]", "row 1: usr"),
        ("[{", "is no valid YAML"),
    ],
)
def test_a_table_that_is_not_valid(tmp_path: Path, text: str, message: str) -> None:
    config, table = write_config(tmp_path, {"rules": RULES}), tmp_path / "expected.yaml"
    table.write_text(text)
    result = run("rules", "test", table, "--config", config)
    assert (result.exit_code, message in result.output) == (2, True), result.output


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"name": "r", "when": "claims.level >"}, "rule r: the condition is not valid CEL"),
        ({"name": "r", "when": "user"}, "rule r: the condition is of type STRING, not bool"),
        (
            {"name": "r", "verbs": ["files:reed"]},
            "rules[4].verbs[0]: `files:reed` is an unknown verb (did you mean",
        ),
        ({"name": "r", "paths": ["home"]}, "rule r: home: a path begins with `/`"),
        ({"name": "r", "times": ["8-18"]}, "rule r: '8-18' is no time window"),
        ({"name": "r", "times": ["08:00-18:00"], "timezone": "Zurich"}, "rule r: 'Zurich' is no known time zone"),
        ({"name": "own"}, "rule own: two rules are named own (the first is at "),
    ],
)
def test_check_compiles_the_rules(tmp_path: Path, rule: dict[str, object], message: str) -> None:
    result = run("check", write_config(tmp_path, {"rules": [*RULES, rule]}))
    assert (result.exit_code, message in result.output.replace("\n", " ")) == (2, True), result.output


def test_rules_of_a_file_are_added(tmp_path: Path) -> None:
    more, table = tmp_path / "more.yaml", tmp_path / "expected.yaml"
    config = write_config(tmp_path, {"rules": RULES, "rules_file": str(more)})
    more.write_text("rules: [{name: staff, users: [staff]}]")
    table.write_text("[{user: staff, verb: transfer, cluster: x, expect: allow, rule: staff}]")
    assert run("rules", "test", table, "-c", config).exit_code == 0
    for text, message in {
        "x: [": f"{more}:",
        "3": "no list of rules",
        "[{nme: x}]": f"{more}:1: rules[0].nme: is not a setting (did you mean `name`?)",
        "- name: a\n- name: b\n  verbs: [run]": f"{more}:3: rules[1].verbs[0]: `run` is an unknown verb",
        "- name: a\n- name: b\n  when: user": f"{more}:3: rule b: the condition is of type STRING",
    }.items():
        more.write_text(text)
        result = run("check", config)
        assert (result.exit_code, message in result.output) == (2, True), result.output
