"""The Scheduler port over a server that answers as slurmrestd did, and over one that misbehaves."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import (
    Conflict,
    Denied,
    GatewayError,
    Invalid,
    NotFound,
    Timeout,
    Unavailable,
    Unsupported,
    Upstream,
)
from flamecrest.server.schedulers.slurm.rest.client import NotSent
from flamecrest.server.schedulers.slurm.rest.tokens import LIFE, OwnTokens, SignedTokens
from flamecrest.server.schedulers.values import (
    ArrayRequest,
    Dependency,
    DependencyKind,
    JobAction,
    JobChange,
    JobSpec,
    Mail,
    MailEvent,
    Resources,
    WarningSignal,
)
from flamecrest.server.telemetry.trace import Trace, current_trace

from .toy_slurmrestd import KEY, VERSIONS, body, client_of, recorded, recordings, scheduler_of, slurmrestd, soon

pytestmark = pytest.mark.anyio

SPEC = JobSpec("/home/fireuser", script="#!/bin/bash\ntrue\n")
FULL = JobSpec(
    "/home/fireuser",
    script="#!/bin/bash\ntrue\n",
    name="it's",
    env={"A": "b=c"},
    resources=Resources(nodes=2, tasks=4, memory=100, exclusive=True),
    time_limit=61,
    priority=5,
    array=ArrayRequest("0-3", 2),
    dependencies=(Dependency(DependencyKind.AFTER_OK, ("12",)),),
    begin=1_900_000_000,
    deadline=1_900_000_900,
    requeue=False,
    signal=WarningSignal("USR1", 70),
    mail=Mail((MailEvent.BEGIN, MailEvent.END), "a@b"),
)
SUBMIT = "POST /slurm/{}/job/submit"


async def submitted(version: str, spec: JobSpec) -> dict[str, Any]:
    async with slurmrestd() as toy, client_of(toy, version) as client:
        toy.answers[SUBMIT.format(version)] = recorded(version, "job-submit")
        assert int(await scheduler_of(client).submit(spec, soon())) > 0
        found: dict[str, Any] = toy.asked[-1].json
        return found


async def test_log_has_the_time_that_slurmrestd_took() -> None:
    current_trace.set(trace := Trace("r", "c"))
    await submitted("v0.0.40", SPEC)
    assert "ssh" in trace.phases


async def test_description_for_new_versions() -> None:
    sent = await submitted("v0.0.42", FULL)

    def number(value: int) -> dict[str, Any]:
        return {"set": True, "infinite": False, "number": value}

    environment = ["PATH=/usr/local/bin:/usr/bin:/bin", "USER=fireuser", "LOGNAME=fireuser", "A=b=c"]
    assert sent == {
        "script": FULL.script,
        "job": {
            "current_working_directory": "/home/fireuser",
            "name": "it's",
            "comment": sent["job"]["comment"],
            "nodes": "2",
            "tasks": 4,
            "memory_per_node": number(100),
            "shared": ["none"],
            "time_limit": number(2),
            "priority": number(5),
            "array": "0-3%2",
            "dependency": "afterok:12",
            "begin_time": number(1_900_000_000),
            "deadline": 1_900_000_900,
            "requeue": False,
            "kill_warning_signal": "USR1",
            "kill_warning_delay": number(70),
            "mail_type": ["BEGIN", "END"],
            "mail_user": "a@b",
            "environment": environment,
        },
    }


async def test_description_for_old_versions() -> None:
    job = (await submitted("v0.0.38", replace(FULL, requeue=None)))["job"]
    assert (job["memory_per_node"], job["time_limit"], job["priority"], job["nodes"]) == (100, 2, "5", "2")
    assert (job["begin_time"], job["deadline"], job["signal"]) == ("uts1900000000", "uts1900000900", "USR1@70")
    assert (job["exclusive"], job["mail_type"], job["environment"]["A"]) == ("exclusive", "BEGIN,END", "b=c")


@pytest.mark.parametrize(
    ("version", "resources", "sent"),
    [
        ("v0.0.38", Resources(nodes=2), {"nodes": "2", "tasks": 2}),
        ("v0.0.38", Resources(nodes=2, tasks_per_node=3), {"nodes": "2", "tasks": 6, "tasks_per_node": 3}),
        ("v0.0.38", Resources(tasks_per_node=3), {"tasks": 3, "tasks_per_node": 3}),
        ("v0.0.42", Resources(nodes=2), {"nodes": "2"}),
        ("v0.0.42", Resources(tasks=5, tasks_per_node=2), {"minimum_nodes": 3, "tasks": 5, "tasks_per_node": 2}),
    ],
)
async def test_nodes_and_tasks_are_those_of_sbatch(version: str, resources: Resources, sent: dict[str, Any]) -> None:
    job = (await submitted(version, replace(SPEC, resources=resources)))["job"]
    assert {name: job[name] for name in job if name in {"nodes", "minimum_nodes", "tasks", "tasks_per_node"}} == sent


@pytest.mark.parametrize(
    ("version", "change", "field"),
    [
        ("v0.0.38", {"resources": Resources(gpus=1)}, "resources.gpus"),
        ("v0.0.45", {"native": ("--exclusive",)}, "native"),
        ("v0.0.42", {"script": "#!/bin/sh\n# a comment\n#SBATCH --wait\ntrue\n"}, "--wait"),
        ("v0.0.38", {"script": "#!/bin/sh\n#SBATCH --gpus=2\ntrue\n"}, "resources.gpus"),
        ("v0.0.42", {"script": "true\n"}, "#!"),
        ("v0.0.42", {"script": "#!/bin/sh\n\0"}, "script"),
        ("v0.0.42", {"working_directory": "home"}, "workingDirectory"),
        ("v0.0.42", {"env": {"A=B": "c"}}, "env"),
    ],
)
async def test_what_slurmrestd_cannot_take(version: str, change: dict[str, Any], field: str) -> None:
    spec = JobSpec(**({"working_directory": "/tmp", "script": SPEC.script} | change))
    async with slurmrestd() as toy, client_of(toy, version) as client:
        with pytest.raises(Invalid, match=field):
            await scheduler_of(client).submit(spec, soon())
        assert toy.asked == []


async def test_a_line_after_the_first_command_is_no_directive() -> None:
    await submitted("v0.0.42", JobSpec("/tmp", script="#!/bin/sh\ntrue\n#SBATCH --nodes=2\n"))


async def test_a_script_of_windows_is_refused() -> None:
    with pytest.raises(Invalid, match="line ends of Windows") as caught:
        await submitted("v0.0.42", replace(SPEC, script="#!/bin/sh\r\ntrue\r\n"))
    assert [one.name for one in caught.value.fields] == ["script"]


async def test_a_path_of_a_script_is_unsupported() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        with pytest.raises(Unsupported, match="scriptPath"):
            await scheduler_of(client).submit(JobSpec("/tmp", script_path="/tmp/a"), soon())


@pytest.mark.parametrize(
    ("version", "name", "kind", "words"),
    [
        ("v0.0.38", "job-submit-ERR-bad-partition", Invalid, "Invalid partition name specified"),
        ("v0.0.38", "job-submit-ERR-bad-account", Invalid, "Invalid account"),
        ("v0.0.38", "job-submit-ERR-unknown-field", Invalid, "nosuch"),
        ("v0.0.42", "job-submit-ERR-bad-partition", Invalid, "Invalid partition name specified"),
        ("v0.0.42", "job-submit-ERR-too-many-nodes", Invalid, "Requested node configuration is not available"),
        ("v0.0.42", "job-submit-ERR-wrong-type", Invalid, "Expected OpenAPI type=integer"),
        ("v0.0.42", "job-submit-ERR-other-user", Denied, "Invalid user id"),
        ("v0.0.42", "job-submit-ERR-time-limit-text", Invalid, "Expected integer"),
        ("v0.0.42", "ERR-bad-token-submit", Unavailable, "token"),
        ("v0.0.42", "ctld-down-job-submit", Unavailable, "Unable to contact slurm controller"),
        ("v0.0.45", "job-submit-ERR-bad-partition", Invalid, "Invalid partition name specified"),
        ("v0.0.45", "job-submit-ERR-wrong-type", Invalid, "Expected"),
    ],
)
async def test_refused_submissions(version: str, name: str, kind: type[GatewayError], words: str) -> None:
    async with slurmrestd() as toy, client_of(toy, version) as client:
        toy.answers[SUBMIT.format(version)] = recorded(version, name)
        with pytest.raises(kind, match=words) as caught:
            await scheduler_of(client).submit(SPEC, soon())
        assert type(caught.value) is kind
        kinds = {"partition": "unknownPartition", "account": "unknownAccount", "nodes": "impossibleResources"}
        assert caught.value.refusal == kinds.get(name.rpartition("-")[2])
        assert "may have been submitted" not in caught.value.public


@pytest.mark.parametrize("version", ["v0.0.38", "v0.0.42", "v0.0.45"])
async def test_a_refusal_names_the_field_of_the_request(version: str) -> None:
    line = replace(SPEC, script="#!/bin/sh\n#SBATCH --partition=none\n")
    async with slurmrestd() as toy, client_of(toy, version) as client:
        toy.answers[SUBMIT.format(version)] = recorded(version, "job-submit-ERR-bad-partition")
        for spec, names in ((replace(SPEC, partition="none"), ["partition"]), (line, [])):
            with pytest.raises(Invalid) as caught:
                await scheduler_of(client).submit(spec, soon())
            assert [one.name for one in caught.value.fields] == names
        refused = {"errors": [{"error_number": 2066, "error": "Invalid qos specification"}]}
        number = recordings(version)["job"]["request"].rpartition("/")[2]
        toy.play(version, "job")
        toy.answers[f"POST /slurm/{version}/job/{number}"] = 500, json.dumps(refused).encode()
        with pytest.raises(Invalid, match="Invalid qos specification") as caught:
            await scheduler_of(client).change(number, JobChange(qos="none"), soon())
        assert [one.name for one in caught.value.fields] == ["qos"]


async def test_a_held_job_is_submitted_although_errors_are_listed() -> None:
    held = {"errors": [{"error_code": 2042, "error": "Job is in held state"}], "job_id": 9}
    async with slurmrestd() as toy, client_of(toy, "v0.0.38") as client:
        toy.answers[SUBMIT.format("v0.0.38")] = 200, json.dumps(held).encode()
        assert await scheduler_of(client).submit(SPEC, soon()) == "9"


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"jobs": [')
    await writer.drain()


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(20)


BROKEN: dict[str, tuple[Any, type[GatewayError]]] = {
    "no JSON": ((200, b"<html>"), Upstream),
    "truncated JSON": ((200, b'{"jobs": [{"job_id"'), Upstream),
    "a list": ((200, b"[]"), Upstream),
    "empty": ((200, b""), Upstream),
    "a redirect": ((302, b"{}"), Upstream),
    "cut": (cut, Upstream),
    "silent": (silent, Timeout),
    "a proxy's error": ((502, b"Bad Gateway"), Unavailable),
    "deep": ((200, b"[" * 100_000), Upstream),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_answers_that_are_none(name: str) -> None:
    answer, kind = BROKEN[name]
    seconds = 1.0 if kind is Timeout else 20.0
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        scheduler = scheduler_of(client)
        toy.answers |= {"GET /slurm/v0.0.42/nodes": answer, SUBMIT.format("v0.0.42"): answer}
        with pytest.raises(kind):
            await scheduler.nodes(Deadline.after(seconds))
        with pytest.raises(kind) as caught:
            await scheduler.submit(SPEC, Deadline.after(seconds))
        if kind is not Unavailable:
            assert "may have been submitted" in caught.value.public


async def test_nobody_listens(tmp_path: Path) -> None:
    async with slurmrestd() as toy:
        toy.url = f"unix:{tmp_path}/nobody"
        async with client_of(toy, "v0.0.42") as client:
            with pytest.raises(NotSent) as caught:
                await scheduler_of(client).submit(SPEC, soon())
            assert "may have been submitted" not in caught.value.public


async def test_unix_socket_and_one_connection(tmp_path: Path) -> None:
    async with slurmrestd(tmp_path / "socket") as toy, client_of(toy, "v0.0.42") as client:
        toy.answers["GET /slurm/v0.0.42/nodes"] = recorded("v0.0.42", "nodes")
        for _ in range(3):
            assert len(await scheduler_of(client).nodes(soon())) == 4
        assert toy.connections == 1


async def test_the_newest_version_of_both_is_asked_once() -> None:
    async with slurmrestd() as toy, client_of(toy, None) as client:
        toy.answers["GET /openapi/v3"] = 200, b'{"paths": {"\\/slurm\\/v0.0.38\\/ping": {}, "/slurm/v0.0.36/ping": {}}}'
        toy.answers["GET /slurm/v0.0.38/ping"] = recorded("v0.0.38", "ping")
        await asyncio.gather(*(scheduler_of(client).ping(soon()) for _ in range(3)))
        assert [asked.target for asked in toy.asked].count("/openapi/v3") == 1
        toy.answers["GET /slurm/v0.0.38/ping"] = recorded("v0.0.38", "ctld-down-rest-ping")
        with pytest.raises(Unavailable):
            await scheduler_of(client).ping(soon())


async def test_tokens_are_made_with_slurms_key() -> None:
    now = 1_900_000_000.0
    tokens = SignedTokens(KEY, clock=lambda: now)
    first = tokens.token(Identity("fireuser"))
    claims = jwt.decode(first, KEY, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False})
    assert (claims["sun"], claims["exp"]) == ("fireuser", now + LIFE)
    assert claims["iat"] <= now
    assert tokens.token(Identity("fireuser")) == first
    assert tokens.token(Identity("user01")) != first
    now += LIFE - 60
    assert tokens.token(Identity("fireuser")) != first
    assert KEY.decode() not in repr(tokens)


async def test_own_tokens() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42", OwnTokens()) as client:
        toy.answers["GET /slurm/v0.0.42/nodes"] = recorded("v0.0.42", "ERR-bad-token-jobs")
        with pytest.raises(Denied, match="token"):
            await scheduler_of(client).nodes(soon())
        assert toy.asked[0].headers["x-slurm-user-token"] == "own"
        assert toy.asked[0].headers["x-slurm-user-name"] == "fireuser"
    with pytest.raises(Denied):
        OwnTokens().token(Identity("fireuser"))


async def test_a_job_of_both_sources() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        toy.play("v0.0.42", "job-array", "slurmdb-job-array")
        (job,) = await scheduler_of(client).job("234", soon())
        assert (job.id, job.state) == ("234", "CANCELLED")  # the accounting was recorded later
        assert len(job.steps) == 4


async def test_unknown_job() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        scheduler = scheduler_of(client)
        toy.play("v0.0.42", "job-ERR-unknown", "slurmdb-job-unknown", "job-update-ERR-unknown-job")
        toy.answers["DELETE /slurm/v0.0.42/jobs"] = recorded("v0.0.42", "job-delete-ERR-unknown")
        for asked in (
            scheduler.job("999999", soon()),
            scheduler.metadata("999999", soon()),
            scheduler.cancel("999999", soon()),
            scheduler.change("999999", JobChange(comment="x"), soon()),
            scheduler.act("999999", JobAction.HOLD, soon()),
        ):
            with pytest.raises(NotFound, match="Job not found"):
                await asked


async def test_lists_without_accounting() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        toy.answers["GET /slurm/v0.0.42/jobs"] = recorded("v0.0.42", "job-array")
        past = "GET /slurmdb/v0.0.42/jobs?start_time=uts1795850200&users=fireuser"
        toy.answers[past] = recorded("v0.0.42", "dbd-down-slurmdb-jobs")
        scheduler = scheduler_of(client)
        found = await scheduler.jobs(all_users=False, account=None, name=None, window=3600, deadline=soon())
        assert [job.id for job in found] == ["234_0", "234_1", "234_[2-3%2]"]


async def test_a_name_that_is_not_utf8_hides_no_job() -> None:
    status, content = recorded("v0.0.42", "job-control-name")
    assert b"\xff" in content
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        toy.answers["GET /slurm/v0.0.42/jobs"] = status, content
        toy.answers["GET /slurmdb/v0.0.42/jobs?start_time=uts1795850200"] = 200, b'{"jobs": []}'
        found = await scheduler_of(client).jobs(all_users=True, account=None, name=None, window=3600, deadline=soon())
        assert found[0].name.endswith("bad\ufffd\ufffd")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("job-delete-again", None),
        ("job-delete-running", None),
        ("job-delete-ERR-other-user", Denied),
        ("ctld-down-job-delete", Unavailable),
    ],
)
async def test_cancel(name: str, kind: type[GatewayError] | None) -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        toy.answers["DELETE /slurm/v0.0.42/jobs"] = recorded("v0.0.42", name)
        with nullcontext() if kind is None else pytest.raises(kind):
            await scheduler_of(client).cancel("242_[1-3]", soon())
        assert toy.asked[0].json == {"jobs": ["242_[1-3]"]}


@pytest.mark.parametrize("version", VERSIONS[1:])
async def test_an_ended_job_of_another_user_is_not_cancelled(version: str) -> None:
    """Slurm says only that it has ended, whoever asks."""
    row = body(version, "job")["jobs"][0]
    path = f"/slurm/{version}/job/{row['job_id']}"
    async with slurmrestd() as toy, client_of(toy, version) as client:
        said = body("v0.0.42", "jobs-delete-signal-array-with-ended-element")["status"][0]
        reply = {"status": [said | {"step_id": str(row["job_id"])}], "errors": [], "warnings": []}
        toy.answers[f"DELETE /slurm/{version}/jobs"] = 200, json.dumps(reply).encode()
        toy.answers[f"GET {path.replace('/slurm/', '/slurmdb/')}"] = 200, b'{"jobs": []}'
        for user, refusal in (("fireuser", nullcontext()), ("ada", pytest.raises(Denied, match="another user"))):
            toy.answers[f"GET {path}"] = 200, json.dumps({"jobs": [row | {"user_name": user}]}).encode()
            with refusal:
                await scheduler_of(client).cancel(str(row["job_id"]), soon())


async def test_signals() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        scheduler = scheduler_of(client)
        toy.answers["DELETE /slurm/v0.0.42/jobs"] = recorded("v0.0.42", "jobs-delete-signal")
        await scheduler.signal("231", "sigusr1", soon())
        assert toy.asked[0].json == {"jobs": ["231"], "signal": "USR1", "flags": ["FULL_JOB"]}
        for unknown in ("NOSUCH", "SIGNOSUCH", "0", "99", "USR1&x=1", ""):
            with pytest.raises(Invalid, match="signal"):
                await scheduler.signal("231", unknown, soon())
        assert len(toy.asked) == 1
        toy.answers["DELETE /slurm/v0.0.42/jobs"] = recorded("v0.0.42", "job-delete-again")
        with pytest.raises(Conflict):
            await scheduler.signal("242", "USR1", soon())


async def test_changes() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        scheduler = scheduler_of(client)
        toy.play("v0.0.42", "job", "job-update")
        await scheduler.change("231", JobChange(comment="c", time_limit=61, dependencies=()), soon())
        limit = {"set": True, "infinite": False, "number": 2}
        assert toy.asked[1].json == {"comment": "c", "time_limit": limit, "dependency": ""}
        await scheduler.act("231", JobAction.HOLD, soon())
        await scheduler.act("231", JobAction.RELEASE, soon())
        assert [asked.json for asked in toy.asked[3::2]] == [{"hold": True}, {"hold": False}]
        toy.answers["POST /slurm/v0.0.42/job/231"] = recorded("v0.0.42", "job-update-ERR-more-time")
        with pytest.raises(Denied):
            await scheduler.change("231", JobChange(time_limit=9999999), soon())


@pytest.mark.parametrize("action", [JobAction.REQUEUE, JobAction.SUSPEND, JobAction.RESUME])
async def test_actions_that_a_version_lacks(action: JobAction) -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        with pytest.raises(Unsupported, match=action.value):
            await scheduler_of(client).act("231", action, soon())


async def test_requeue() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.45") as client:
        toy.play("v0.0.45", "job", "job-requeue")
        await scheduler_of(client).act("253", JobAction.REQUEUE, soon())
        assert toy.asked[1].target == "/slurm/v0.0.45/job/253/requeue"


async def test_an_array_that_old_versions_have_updated() -> None:
    reply = {"errors": [{"description": "job array update from [localhost]:33820 failed", "source": "_parse_job_list"}]}
    async with slurmrestd() as toy, client_of(toy, "v0.0.38") as client:
        toy.answers["GET /slurm/v0.0.38/job/7"] = 200, b'{"jobs": []}'
        toy.answers["POST /slurm/v0.0.38/job/7"] = 200, json.dumps(reply).encode()
        await scheduler_of(client).act("7", JobAction.HOLD, soon())


async def test_a_job_of_another_cluster() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        with pytest.raises(NotFound):
            await scheduler_of(client).job("12.west", soon())


async def test_many_jobs_do_not_block() -> None:
    row = json.loads(recorded("v0.0.42", "job")[1])["jobs"][0]
    rows = [row | {"job_id": number} for number in range(1, 2001)]
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        toy.answers["GET /slurm/v0.0.42/jobs"] = 200, json.dumps({"jobs": rows}).encode()
        toy.answers["GET /slurmdb/v0.0.42/jobs?start_time=uts1795850200&users=fireuser"] = 200, b'{"jobs": []}'
        found = await scheduler_of(client).jobs(all_users=False, account=None, name=None, window=3600, deadline=soon())
        assert len(found) == 2000
