"""The audit log and the limits of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flamecrest.server.audit.chain import verify
from flamecrest.server.auth.port import AccessRequest, Decision, Identity, Verb
from flamecrest.server.errors import Busy
from flamecrest.server.settings import AuditSettings, LimitsSettings
from flamecrest.server.telemetry.trace import Trace, current_trace
from flamecrest.server.wiring.audit import open_audit
from flamecrest.server.wiring.limits import make_fair_use

pytestmark = pytest.mark.anyio

LIMITS = {
    "users": [
        {"claims": {"groups": "staff"}, "requests_per_second": 0.001, "burst": 2},
        {"requests_per_second": 0.001, "verbs": {"jobs:submit": {"in_flight": 1}}},
    ],
    "clients": [{"claims": {"azp": ["portal"]}, "in_flight": 1}],
}


@pytest.fixture
def settings(tmp_path: Path) -> AuditSettings:
    file = str(tmp_path / "audit.jsonl")
    return AuditSettings.model_validate({"file": file, "key": "secret", "max_file_size": 1_000_000})


async def test_two_runs_of_a_gateway_write_one_whole_log(settings: AuditSettings) -> None:
    file = Path(settings.file or "")
    request = AccessRequest(Identity("alice"), Verb.FILES_WRITE, "daint", ("/home/x",))
    for _ in range(2):
        async with open_audit(settings) as audit:
            assert audit is not None
            trace = Trace("id", "id", "PUT", user="alice", status=201)
            token = current_trace.set(trace)
            audit.decided(request, Decision(allowed=True, rule="r"))
            current_trace.reset(token)
            audit.ended(trace, "192.0.2.1")
    lines = file.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["event"] for line in lines] == ["start", "call", "stop"] * 2
    assert verify((("", line) for line in lines), b"secret").problems == []
    assert verify((("", line) for line in lines), b"").problems


async def test_without_settings_there_are_none() -> None:
    async with open_audit(None) as audit:
        assert audit is None
    assert await make_fair_use(None) is None
    assert await make_fair_use(LimitsSettings()) is None


@pytest.mark.parametrize(("claims", "allowed"), [({"groups": ["staff"]}, 2), ({}, 1)])
async def test_the_first_entry_that_matches_counts(claims: dict[str, object], allowed: int) -> None:
    fair_use = await make_fair_use(LimitsSettings.model_validate(LIMITS))
    assert fair_use is not None
    for _ in range(allowed):
        await fair_use.admit(fair_use.begin(Identity("alice", claims=claims)))
    with pytest.raises(Busy):
        await fair_use.admit(fair_use.begin(Identity("alice", claims=claims)))
    await fair_use.close()


async def test_limits_of_a_client() -> None:
    fair_use = await make_fair_use(LimitsSettings.model_validate(LIMITS))
    assert fair_use is not None
    users = [Identity(name, client="portal", claims={"azp": "portal"}) for name in ("alice", "bob")]
    await fair_use.admit(fair_use.begin(users[0]))
    with pytest.raises(Busy, match="1 open requests"):
        await fair_use.admit(fair_use.begin(users[1]))
    await fair_use.close()


@pytest.mark.parametrize(
    ("section", "value"),
    [
        (AuditSettings, {}),
        (AuditSettings, {"stdout": True, "max_file_size": 5}),
        (AuditSettings, {"file": "relative"}),
        (AuditSettings, {"syslog": "tcp://host"}),
        (LimitsSettings, {"store": "http://x"}),
        (LimitsSettings, {"users": [{"burst": 5}]}),
        (LimitsSettings, {"users": [{"bytes_burst": 5}]}),
        (LimitsSettings, {"users": [{"verbs": {"fly": {"in_flight": 1}}}]}),
        (LimitsSettings, {"users": [{"requests_per_second": 0}]}),
    ],
)
def test_wrong_settings(section: type[AuditSettings | LimitsSettings], value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        section.model_validate(value)
