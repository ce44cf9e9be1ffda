"""Typed jobs on the wire: what the scheduler receives, and what is refused by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import Field, Invalid
from flamecrest.server.schedulers.job_errors import Refusal
from flamecrest.server.schedulers.values import (
    ArrayRequest,
    Dependency,
    DependencyKind,
    Mail,
    MailEvent,
    Resources,
    WarningSignal,
)

from .world import World, fields

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.anyio

JOBS = "/compute/toy/jobs"
SCRIPT = "#!/bin/sh\ntrue\n"


async def submit(client: httpx.AsyncClient, **job: Any) -> httpx.Response:
    return await client.post(JOBS, json={"job": {"workingDirectory": "/w", "script": SCRIPT, **job}})


async def test_every_field_reaches_the_scheduler(client: httpx.AsyncClient, world: World) -> None:
    response = await submit(
        client,
        resources={
            "nodes": 2, "tasks": 8, "tasks_per_node": 4, "cpusPerTask": 3, "memory": "4GiB", "gpus": 2,
            "gpusPerNode": 1, "gpuType": "a100", "exclusive": True, "features": "ib&big",
        },
        timeLimit="1h30m", qos="high", priority=10, array="0-15%4", hold=True, begin="2027-01-31T08:00:00Z",
        deadline=1801390000, requeue=False, signal="SIGUSR1@90", mail={"events": ["end", "fail"], "address": "a@b.ch"},
        dependencies=["afterok:1:2_3", {"kind": "singleton"}, {"kind": "after", "jobIds": ["7"]}],
        comment="c", licenses="ansys:2", container="/c", native=["--spread-job"],
    )  # fmt: skip
    assert response.status_code == 201, response.text
    spec = world.queue.specs["315"]
    assert spec.resources == Resources(2, 8, 4, 3, 4096, None, 2, 1, "a100", True, "ib&big")
    assert (spec.time_limit, spec.qos, spec.priority, spec.array) == (5400, "high", 10, ArrayRequest("0-15", 4))
    assert (spec.hold, spec.begin, spec.deadline, spec.requeue) == (True, 1801382400, 1801390000, False)
    assert (spec.signal, spec.mail) == (WarningSignal("USR1", 90), Mail([MailEvent.END, MailEvent.FAIL], "a@b.ch"))
    assert spec.dependencies == (
        Dependency(DependencyKind.AFTER_OK, ("1", "2_3")),
        Dependency(DependencyKind.SINGLETON),
        Dependency(DependencyKind.AFTER, ("7",)),
    )
    assert (spec.comment, spec.licenses, spec.container, spec.native) == ("c", "ansys:2", "/c", ("--spread-job",))


async def test_null_and_objects(client: httpx.AsyncClient, world: World) -> None:
    names = ("resources", "timeLimit", "qos", "array", "dependencies", "hold", "begin", "signal", "mail", "native")
    await submit(client, **dict.fromkeys(names), comment="")
    spec = world.queue.specs["315"]
    assert (spec.resources, spec.array, spec.dependencies, spec.native, spec.comment) == (
        Resources(),
        None,
        (),
        (),
        None,
    )
    await submit(client, array={"elements": "1,3,5-9:2", "maxRunning": 2}, signal={"name": "9", "beforeEnd": "2m"})
    spec = world.queue.specs["316"]
    assert (spec.array, spec.signal) == (ArrayRequest("1,3,5-9:2", 2), WarningSignal("9", 120))


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ({"timelimit": "1h"}, "timelimit"),
        ({"resources": {"cpus": 2}}, "resources.cpus"),
        ({"resources": {"nodes": 0}}, "resources.nodes"),
        ({"resources": {"nodes": -1}}, "resources.nodes"),
        ({"resources": {"nodes": "2"}}, "resources.nodes"),
        ({"resources": {"nodes": True}}, "resources.nodes"),
        ({"resources": {"tasks": 10**30}}, "resources.tasks"),
        ({"resources": {"memory": 4096}}, "resources.memory"),
        ({"resources": {"memory": "4"}}, "resources.memory"),
        ({"resources": {"memory": "4GiB", "memoryPerCpu": "1GiB"}}, "resources"),
        ({"resources": {"gpuType": "a100"}}, "resources"),
        ({"resources": {"gpus": 1, "gpuType": "a\n--uid=0"}}, "resources.gpuType"),
        ({"resources": []}, "resources"),
        ({"constraints": "a", "resources": {"features": "b"}}, "constraints"),
        ({"timeLimit": "1:2:3:4:5"}, "timeLimit"),
        ({"timeLimit": 0}, "timeLimit"),
        ({"priority": 0}, "priority"),
        ({"priority": 2**32}, "priority"),
        ({"array": "0-1000000000"}, "array"),
        ({"array": "5-1"}, "array"),
        ({"array": "1-5:0"}, "array"),
        ({"array": "1;rm"}, "array"),
        ({"array": ""}, "array"),
        ({"array": "1%x"}, "array"),
        ({"array": "1%0"}, "array"),
        ({"array": "1," * 2100}, "array"),
        ({"array": {"elements": "0-3", "maxRunning": 0}}, "array.maxRunning"),
        ({"array": {"elements": "x"}}, "array"),
        ({"dependencies": ["afterok"]}, "dependencies.0"),
        ({"dependencies": ["after:1", "singleton:1"]}, "dependencies.1"),
        ({"dependencies": ["after:1;rm"]}, "dependencies.0"),
        ({"dependencies": ["never:1"]}, "dependencies.0"),
        ({"dependencies": [{"kind": "after", "jobIds": ["1", "2;rm"]}]}, "dependencies.0.jobIds.1"),
        ({"dependencies": "afterok:1"}, "dependencies"),
        ({"hold": "yes"}, "hold"),
        ({"begin": "tomorrow"}, "begin"),
        ({"begin": 2000000000, "deadline": 1900000000}, "deadline"),
        ({"signal": "USR1;x"}, "signal"),
        ({"signal": {"name": "USR1;x"}}, "signal.name"),
        ({"signal": "USR1@99999"}, "signal"),
        ({"mail": {"events": []}}, "mail.events"),
        ({"mail": {"events": ["end"], "address": "-x"}}, "mail.address"),
        ({"mail": {"events": ["end"], "address": "a@b c"}}, "mail.address"),
        ({"comment": "a\0b"}, "comment"),
        ({"licenses": "a\nb"}, "licenses"),
        ({"native": "--x"}, "native"),
    ],
)
async def test_what_cannot_be_is_refused_by_its_name(
    client: httpx.AsyncClient, world: World, job: Any, name: str
) -> None:
    response = await submit(client, **job)
    assert (response.status_code, fields(response)) == (400, [("body", name)])
    assert world.queue.specs == {}


async def test_check_of_a_job(client: httpx.AsyncClient, world: World) -> None:
    job = {"workingDirectory": "/w", "script": SCRIPT, "timeLimit": "1h"}
    response = await client.post(f"{JOBS}/validate", json={"job": job})
    assert response.json() == {"start": 1795295754, "partition": "debug", "nodes": "nid004", "cpus": 1}
    refused = await client.post(f"{JOBS}/validate", json={"job": {**job, "partition": "none"}})
    assert (refused.status_code, refused.json()["message"]) == (400, "invalid partition specified: none")
    assert (await client.post(f"{JOBS}/validate", json={"job": {**job, "timeLimit": "x"}})).status_code == 400
    assert world.queue.specs == {}


async def test_course_of_a_job(client: httpx.AsyncClient, world: World) -> None:
    await submit(client)
    assert (await client.post(f"{JOBS}/315/hold")).status_code == 204
    held = world.queue.specs["315"].hold
    assert (await client.post(f"{JOBS}/315/release")).status_code == 204
    assert (held, world.queue.specs["315"].hold) == (True, False)
    assert (await client.post(f"{JOBS}/315/signal", json={"signal": "USR1"})).status_code == 204
    assert (await client.delete(f"{JOBS}/315?signal=TERM")).status_code == 204
    assert world.queue.signals == [("315", "USR1"), ("315", "TERM")]
    assert world.queue.states["315"] == "PENDING"
    for action in ("requeue", "suspend", "resume"):
        response = await client.post(f"{JOBS}/315/{action}")
        assert (response.status_code, action in response.json()["message"]) == (501, True)
    for request in (client.post(f"{JOBS}/9/hold"), client.patch(f"{JOBS}/9", json={"name": "n"})):
        assert (await request).status_code == 404
    assert fields(await client.post(f"{JOBS}/1;rm/hold")) == [("path", "job_id")]
    assert fields(await client.delete(f"{JOBS}/315?signal=;")) == [("query", "signal")]


async def test_change_of_a_job(client: httpx.AsyncClient, world: World) -> None:
    await submit(client, dependencies=["afterok:1"], name="n")
    change: dict[str, Any] = {"timeLimit": "2h", "partition": "long", "dependencies": [], "name": None}
    assert (await client.patch(f"{JOBS}/315", json=change)).status_code == 204
    spec = world.queue.specs["315"]
    assert (spec.time_limit, spec.partition, spec.dependencies, spec.name) == (7200, "long", (), "n")


@pytest.mark.parametrize(
    ("change", "name"),
    [({}, "body"), ({"name": None}, "body"), ({"nodes": 1}, "nodes"), ({"name": ""}, "name"),
     ({"timeLimit": "-1h"}, "timeLimit"), ({"partition": "a\nb"}, "partition"), ([], "body")],
)  # fmt: skip
async def test_invalid_changes(client: httpx.AsyncClient, change: Any, name: str) -> None:
    assert fields(await client.patch(f"{JOBS}/315", json=change)) == [("body", name)]


async def test_the_verbs_of_the_routes(client: httpx.AsyncClient, world: World) -> None:
    await submit(client)
    world.rules.forbidden.add(("fireuser", Verb.JOBS_SUBMIT))
    job = {"workingDirectory": "/w", "script": SCRIPT}
    for request in (
        client.post(f"{JOBS}/validate", json={"job": job}),
        client.post(f"{JOBS}/315/hold"),
        client.post(f"{JOBS}/315/signal", json={"signal": "USR1"}),
        client.patch(f"{JOBS}/315", json={"name": "n"}),
    ):
        assert (await request).status_code == 403


async def test_an_unknown_field_names_the_one_that_was_meant(client: httpx.AsyncClient) -> None:
    for given, message in (
        ({"timelimit": "1h"}, "did you mean timeLimit?"),
        ({"resources": {"cpusPerTasks": 2}}, "did you mean cpusPerTask?"),
        ({"zzz": 1}, "Unknown field"),
    ):
        answer = await submit(client, **given)
        assert (answer.status_code, message in answer.json()["message"]) == (400, True), answer.text


@pytest.mark.parametrize(
    ("change", "said"),
    [({"array": "1-2"}, "`array`: Unknown field"), ({"jobs": []}, "`jobs`: Unknown field"),
     ({"job": {"timeLimit": "5m"}}, "`job`: Unknown field; give the fields without `job`"),
     ({"timelimit": "5m"}, "`timelimit`: Unknown field; did you mean timeLimit?"),
     ({"dependencies": [{"kind": "after", "jobId": "1"}]},
      "`dependencies.0.jobId`: Unknown field; did you mean jobIds?")],
)  # fmt: skip
async def test_a_change_suggests_only_fields_that_can_be_changed(
    client: httpx.AsyncClient, change: dict[str, Any], said: str
) -> None:
    answer = await client.patch(f"{JOBS}/315", json=change)
    assert (answer.status_code, answer.json()["message"]) == (400, f"The request is not valid. {said}")


async def test_a_job_of_a_list_is_suggested_the_fields_of_a_job(client: httpx.AsyncClient) -> None:
    job = {"workingDirectory": "/w", "script": SCRIPT, "resources": {"gpu": 1}, "timelimit": "1h"}
    answer = await client.post("/compute/toy/bulk/submit", json={"jobs": [job]})
    said = {one["name"]: one["message"] for one in answer.json()["data"]["fields"]}
    assert said["jobs.0.resources.gpu"] == "Unknown field; did you mean gpus?"
    assert said["jobs.0.timelimit"] == "Unknown field; did you mean timeLimit?"
    assert (
        (await client.post("/compute/toy/bulk/submit", json={"job": [job]}))
        .json()["message"]
        .endswith("`job`: Unknown field; did you mean jobs?")
    )


async def test_a_refusal_has_a_kind_and_the_schedulers_words(client: httpx.AsyncClient, world: World) -> None:
    words = "Batch job submission failed: Invalid qos specification"
    field = Field("body", "qos", words)
    world.queue.refusal = Invalid(words, fields=(field,), refusal=Refusal.QOS)
    answer = await submit(client, qos="none")
    assert answer.status_code == 400
    named = {"location": "body", "name": "qos", "message": words}
    body = answer.json()
    assert (body["errorType"], body["message"]) == ("error", words)
    assert body["data"] == {"fields": [named], "kind": "unknownQos"}
    job = {"workingDirectory": "/w", "script": SCRIPT, "qos": "none"}
    (one,) = (await client.post("/compute/toy/bulk/submit", json={"jobs": [job]})).json()["results"]
    assert (one["error"]["kind"], one["error"]["fields"][0]["name"]) == ("unknownQos", "jobs.0.qos")
    world.queue.refusal = Invalid("Job violates a policy", refusal=Refusal.QUOTA)
    assert (await submit(client)).json()["data"] == {"kind": "quota"}
