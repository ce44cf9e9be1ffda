"""Contract of the Scheduler port: submitting, finding and cancelling jobs."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from functools import partial

import pytest

from flamecrest.server.errors import Conflict, Denied, Invalid, NotFound, Unsupported
from flamecrest.server.schedulers.capabilities import Operation
from flamecrest.server.schedulers.job_errors import NotRecordedYet
from flamecrest.server.schedulers.once.submissions import make_marker
from flamecrest.server.schedulers.values import ArrayRequest, JobAction, JobChange, JobSpec
from tests.contract.capabilities import needs
from tests.contract.gateways import soon, when_certain

from .conftest import Place

pytestmark = pytest.mark.anyio

SLEEP = "#!/bin/bash\nsleep 300\n"
UNKNOWN = "4000000"
HOSTILE = {
    "COMMA": "a,b=c",
    "LINES": "one\ntwo\n\n",
    "QUOTES": 'it\'s "x" `id` $(id) $HOME \\n %s !!',
    "EMPTY": "",
    "UNICODE": "é 漢",
}


def spec(place: Place, script: str = "#!/bin/bash\ntrue\n", **more) -> JobSpec:
    more = {"standard_output": f"{place.folder}/out-%j", "standard_error": f"{place.folder}/err-%j"} | more
    return JobSpec(place.folder, script=None if "script_path" in more else script, **more)


@needs("jobs")
async def test_submitted_job_is_found_at_once(place: Place):
    job_id = await place.scheduler.submit(spec(place, name="found"), soon())
    job = await place.job(job_id)
    assert (job.id, job.name, job.user, job.working_directory) == (job_id, "found", place.user, place.folder)
    listed = await place.scheduler.jobs(all_users=False, account=None, name=None, window=3600, deadline=soon())
    assert job_id in [one.id for one in listed]


@needs("jobs")
async def test_job_ids_are_unique(place: Place):
    ids = [await place.scheduler.submit(spec(place, SLEEP), soon()) for _ in range(3)]
    assert len(set(ids)) == 3
    for job_id in ids:
        await place.scheduler.cancel(job_id, soon())


@needs("jobs")
async def test_unknown_job(place: Place):
    scheduler = place.scheduler
    for asked in (
        scheduler.job(UNKNOWN, soon()),
        scheduler.metadata(UNKNOWN, soon()),
        scheduler.cancel(UNKNOWN, soon()),
    ):
        with pytest.raises(NotFound, match="Job not found"):
            await asked


@needs("jobs", "attach")
async def test_attach_to_an_unknown_job(place: Place):
    with pytest.raises(NotFound, match="Job not found"):
        await place.scheduler.attach(UNKNOWN, "true", soon())


@needs("jobs")
async def test_cancelled_job_stays_cancelled(place: Place):
    job_id = await place.scheduler.submit(spec(place, SLEEP), soon())
    await place.scheduler.cancel(job_id, soon())
    assert (await place.until(job_id, "CANCELLED")).id == job_id
    await place.scheduler.cancel(job_id, soon())
    assert (await place.job(job_id)).state == "CANCELLED"


@needs("jobs", "runs")
@pytest.mark.parametrize(("code", "state"), [(0, "COMPLETED"), (3, "FAILED")])
async def test_finished_job(place: Place, code: int, state: str):
    job_id = await place.scheduler.submit(spec(place, f"#!/bin/bash\nexit {code}\n"), soon())
    job = await place.until(job_id, "COMPLETED", "FAILED")
    assert (job.state, job.exit_code, job.signal) == (state, code, 0)
    assert job.times.submit is not None
    assert job.times.start is not None
    assert job.times.end is not None
    assert job.times.submit <= job.times.start <= job.times.end


@needs("jobs", "runs")
async def test_running_job_has_a_start_and_no_end(place: Place):
    job_id = await place.scheduler.submit(spec(place, SLEEP), soon())
    job = await place.until(job_id, "RUNNING")
    assert job.times.start is not None
    assert job.times.end is None
    assert job.nodes
    await place.scheduler.cancel(job_id, soon())


@needs("runs")
async def test_environment_and_output(place: Place):
    script = '#!/bin/bash\nfor name in COMMA LINES QUOTES EMPTY UNICODE; do printf "%s\\0" "${!name-unset}"; done\n'
    target = f"{place.folder}/environment"
    job_id = await place.scheduler.submit(spec(place, script, env=HOSTILE, standard_output=target), soon())
    await place.ended(job_id)
    assert await place.disk.read(target) == "".join(f"{value}\0" for value in HOSTILE.values())


@needs("runs")
async def test_script_is_passed_unchanged(place: Place):
    script = "#!/bin/bash\nprintf '%s' 'R&D \\n <b> é $HOME'\n"
    target = f"{place.folder}/script"
    await place.ended(await place.scheduler.submit(spec(place, script, standard_output=target), soon()))
    assert await place.disk.read(target) == "R&D \\n <b> é $HOME"


@needs("script_path")
async def test_script_on_the_cluster(place: Place):
    path, target = f"{place.folder}/it's a script.sh", f"{place.folder}/from-path"
    await place.disk.write(path, '#!/bin/bash\npwd; echo "$GIVEN"\n')
    job_id = await place.scheduler.submit(
        spec(place, script_path=path, standard_output=target, env={"GIVEN": "as given"}), soon()
    )
    if place.adapter != "tinyq":
        assert (await place.job(job_id)).name in {"it's a script.sh", "it_s_a_script.sh"}
    await place.ended(job_id)
    assert await place.disk.read(target) == f"{place.folder}\nas given\n"


@needs("refuses")
@pytest.mark.parametrize(
    ("capability", "wrong"),
    [
        ("refuses", {"partition": "nosuch"}),
        ("reservations", {"reservation": "nosuch"}),
        ("accounts", {"account": "nosuch"}),
        ("interpreters", {"script": "no script"}),
    ],
)
async def test_refused_submission(place: Place, capability: str, wrong: dict[str, str]):
    if not place.can(capability):
        pytest.skip(f"takes it: {wrong}")
    with pytest.raises(Invalid) as caught:
        await place.scheduler.submit(spec(place, **wrong), soon())
    assert caught.value.public
    assert "may have been submitted" not in caught.value.public


@needs("filters")
async def test_jobs_by_name(place: Place):
    await listed_by_name(place, "plain")


@needs("filters", "names")
@pytest.mark.parametrize("name", ["it's", "a,b", 'say "hi" | it\'s', "é 漢 $(id) %j"])
async def test_jobs_by_any_name(place: Place, name: str):
    await listed_by_name(place, name)


async def listed_by_name(place: Place, name: str) -> None:
    name += secrets.token_hex(4)  # a live site remembers jobs of earlier runs
    job_id = await place.scheduler.submit(spec(place, SLEEP, name=name), soon())
    listed = await place.scheduler.jobs(all_users=False, account=None, name=name, window=3600, deadline=soon())
    assert [(one.id, one.name) for one in listed] == [(job_id, name)]
    await place.scheduler.cancel(job_id, soon())


@needs("filters", "accounts")
async def test_jobs_by_account(place: Place):
    job_id = await place.scheduler.submit(spec(place, SLEEP), soon())
    account = (await place.job(job_id)).account
    assert account
    for wanted, found in ((account, True), (account.upper(), True), ("nosuch", False)):
        listed = await place.scheduler.jobs(all_users=False, account=wanted, name=None, window=3600, deadline=soon())
        assert (job_id in [one.id for one in listed]) is found
    await place.scheduler.cancel(job_id, soon())


@needs("filters", "users")
async def test_jobs_of_all_users(place: Place):
    assert place.other is not None
    job_id = await place.scheduler.submit(spec(place, SLEEP), soon())
    for every in (False, True):
        listed = await place.other.jobs(all_users=every, account=None, name=None, window=3600, deadline=soon())
        assert (job_id in [one.id for one in listed]) is every
    with pytest.raises(Denied):
        await place.other.cancel(job_id, soon())
    await place.scheduler.cancel(job_id, soon())
    await place.ended(job_id)
    with pytest.raises(Denied):
        await place.other.cancel(job_id, soon())
    await place.scheduler.cancel(job_id, soon())


@needs("metadata")
async def test_job_metadata(place: Place):
    paths = {"standard_output": f"{place.folder}/o", "standard_error": f"{place.folder}/e"}
    job_id = await place.scheduler.submit(spec(place, SLEEP, **paths), soon())
    (found,) = await place.scheduler.metadata(job_id, soon())
    script = SLEEP if place.can("scripts") else None
    assert (found.id, found.script) == (job_id, script)
    assert found.standard_input in ("/dev/null", None)
    assert (found.standard_output, found.standard_error) == (paths["standard_output"], paths["standard_error"])
    await place.scheduler.cancel(job_id, soon())


@needs("patterns", "metadata")
async def test_paths_in_the_metadata_are_those_of_the_files(place: Place):
    pattern = f"{place.folder}/o-%5j-%4A-%J-%3J-%n-%2t-%s-%u-%9x-%%-%y"
    job_id = await place.scheduler.submit(spec(place, name="named", standard_output=pattern), soon())
    await place.ended(job_id)
    (found,) = await place.scheduler.metadata(job_id, soon())
    assert found.standard_output is not None
    assert f"/o-{job_id:0>5}-" in found.standard_output
    assert await place.disk.read(found.standard_output) == ""


@needs("waits")
async def test_submission_that_waits_for_the_job_returns_its_id_first(place: Place):
    job_id = await place.scheduler.submit(spec(place, "#!/bin/bash\n#SBATCH --wait\nsleep 300\n"), soon())
    assert (await place.job(job_id)).state in ("PENDING", "RUNNING")
    await place.scheduler.cancel(job_id, soon())
    job_id = await place.scheduler.submit(spec(place, "#!/bin/bash\n#SBATCH --wait\nexit 3\n"), soon())
    assert (await place.until(job_id, "FAILED", "COMPLETED")).exit_code == 3


@needs("clusters")
async def test_job_of_another_cluster_is_not_taken_for_a_local_one(place: Place):
    local = await place.scheduler.submit(spec(place, SLEEP), soon())
    elsewhere = "#!/bin/bash\n#SBATCH --clusters=west\nsleep 300\n"
    ids = [await place.scheduler.submit(spec(place, elsewhere), soon())]
    ids.append(await place.scheduler.submit(spec(place, SLEEP, env={"SBATCH_CLUSTERS": "west"}), soon()))
    assert ids == ["1.west", "2.west"]
    for job_id in ids:
        assert (await place.job(job_id)).id == job_id
        (found,) = await place.scheduler.metadata(job_id, soon())
        assert (found.id, found.script is None) == (job_id, False)
        with pytest.raises(Unsupported):
            await place.scheduler.attach(job_id, "true", soon())
        await place.scheduler.cancel(job_id, soon())
        await place.until(job_id, "CANCELLED")
    listed = await place.scheduler.jobs(all_users=False, account=None, name=None, window=3600, deadline=soon())
    assert not {"1.west", "2.west"} & {job.id for job in listed}
    assert (await place.job(local)).state in ("PENDING", "RUNNING")
    await place.scheduler.cancel(local, soon())
    with pytest.raises(NotFound):
        await place.job(f"{local}.nowhere")
    with pytest.raises(Invalid, match="nowhere"):
        await place.scheduler.submit(spec(place, elsewhere.replace("west", "nowhere")), soon())


@needs("clusters")
async def test_job_of_the_own_cluster_has_no_cluster_in_its_id(place: Place):
    script = "#!/bin/bash\n#SBATCH --clusters=cluster\nsleep 300\n"
    job_id = await place.scheduler.submit(spec(place, script), soon())
    assert job_id.isdecimal()
    await place.scheduler.cancel(job_id, soon())


@needs("attach")
async def test_attach_to_a_running_job(place: Place):
    job_id = await place.scheduler.submit(spec(place, SLEEP), soon())
    await place.until(job_id, "RUNNING")
    target = f"{place.folder}/attached"
    command = f"printf '%s' \"it's ${{SLURM_JOB_ID-$FLAMECREST_JOB_ID}}\" > '{target}'"
    await place.scheduler.attach(job_id, command, soon())
    assert await place.disk.read(target) == f"it's {job_id}"
    with pytest.raises(Invalid, match="exit status 7"):
        await place.scheduler.attach(job_id, "exit 7", soon())
    await place.scheduler.cancel(job_id, soon())
    await place.until(job_id, "CANCELLED")
    with pytest.raises(Conflict):
        await place.scheduler.attach(job_id, "true", soon())


@needs("arrays")
async def test_array_lists_the_job_and_its_elements(place: Place):
    script = '#!/bin/bash\nexit "$(("${SLURM_ARRAY_TASK_ID-}${PBS_ARRAY_INDEX-}${FLAMECREST_ARRAY_INDEX-}" / 3))"\n'
    job_id = await place.scheduler.submit(spec(place, script, array=ArrayRequest("1-3:2")), soon())
    whole = await place.until(job_id, "COMPLETED", "FAILED")
    code = 0 if place.adapter == "pbs" else 1  # PBS says of an array only that elements have failed
    assert (whole.id, whole.state, whole.exit_code) == (job_id, "FAILED", code)
    good, bad = await place.job(place.element(job_id, 1)), await place.job(place.element(job_id, 3))
    assert (good.state, good.exit_code, bad.state, bad.exit_code) == ("COMPLETED", 0, "FAILED", 1)
    with pytest.raises(NotFound):
        await place.job(place.element(job_id, 2))


@needs("jobs", "refuses")
@pytest.mark.parametrize("job_id", ["1;id", "--all", "", "1,2", "x"])
async def test_invalid_job_ids(place: Place, job_id: str):
    for asked in (place.scheduler.job(job_id, soon()), place.scheduler.cancel(job_id, soon())):
        with pytest.raises(Invalid):
            await asked


async def found_in_the_end(place: Place, marker: str) -> str | None:
    """The result of a search, once it is certain: the accounting gets jobs late."""
    while True:
        try:
            return await place.scheduler.find(marker, soon())
        except NotRecordedYet:
            await asyncio.sleep(0.2)


@needs("runs")
@pytest.mark.timeout(300)
async def test_a_job_with_a_key_is_found_by_its_marker(place: Place):
    key = secrets.token_hex(8)
    keyed = spec(place, SLEEP, idempotency_key=key)
    job_id = await when_certain(partial(place.scheduler.submit, keyed))
    marker = make_marker(place.user, key, keyed)
    for text in (marker.prefix, marker.text):
        assert await place.scheduler.find(text, soon()) == job_id
    assert await found_in_the_end(place, f"{marker.prefix}1") is None
    assert await when_certain(partial(place.scheduler.submit, keyed)) == job_id
    assert (await place.job(job_id)).comment is None
    if place.other is not None:
        assert await found_in_the_end(replace(place, scheduler=place.other), marker.text) is None
    await place.scheduler.cancel(job_id, soon())
    await place.ended(job_id)
    assert await found_in_the_end(place, marker.text) == job_id


@needs("runs", "comments", "directives")
async def test_a_new_key_waits_for_no_job_that_cannot_have_it(place: Place):
    """The first job is submitted by slurmrestd where that is used: the accounting has no arguments of sbatch for it."""
    other = await place.scheduler.submit(spec(place, SLEEP, comment="mine"), soon())
    job_id = await place.scheduler.submit(spec(place, idempotency_key=secrets.token_hex(8), comment="mine"), soon())
    assert job_id != other
    await place.scheduler.cancel(other, soon())


@needs("runs", "comments", "directives")
async def test_a_job_with_a_comment_that_cannot_start_is_found_and_not_waited_for(place: Place):
    """The accounting does not have it before it can start."""
    held = spec(place, SLEEP, hold=True, comment="mine", idempotency_key=secrets.token_hex(8))
    job_id = await when_certain(partial(place.scheduler.submit, held))
    marker = make_marker(place.user, held.idempotency_key or "", held)
    assert await place.scheduler.find(marker.text, soon()) == job_id
    assert await found_in_the_end(place, f"{marker.prefix}1") is None
    [paths] = await place.scheduler.metadata(job_id, soon())
    assert paths.standard_input == "/dev/null"
    await place.scheduler.cancel(job_id, soon())


@needs("runs", "comments", "directives")
@pytest.mark.timeout(300)
async def test_a_jobs_own_comment_and_input_stay_and_the_accounting_has_the_marker(place: Place):
    script = "#!/bin/bash\n#SBATCH --comment=mine --input=/dev/null\n"
    for job in (
        spec(place, idempotency_key=secrets.token_hex(8), comment="mine", standard_input="/dev/null"),
        spec(place, script, idempotency_key=secrets.token_hex(8)),
    ):
        job_id = await when_certain(partial(place.scheduler.submit, job))
        marker = make_marker(place.user, job.idempotency_key or "", job)
        assert await found_in_the_end(place, marker.text) == job_id
        await place.ended(job_id)


@needs("runs", "comments", "directives")
@pytest.mark.timeout(300)
async def test_a_job_that_was_held_until_it_was_cancelled_is_found_in_the_accounting(place: Place):
    own = {"comment": "mine", "standard_input": "/dev/null"}
    job = spec(place, hold=True, idempotency_key=secrets.token_hex(8), **own)
    job_id = await when_certain(partial(place.scheduler.submit, job))
    await place.scheduler.cancel(job_id, soon())
    await place.ended(job_id)
    marker = make_marker(place.user, job.idempotency_key or "", job)
    assert await found_in_the_end(place, marker.text) == job_id


@needs("jobs", "runs")
async def test_a_job_that_has_ended_is_not_changed(place: Place):
    job_id = await place.scheduler.submit(spec(place), soon())
    await place.ended(job_id)
    known = place.scheduler.capabilities.operations
    for operation, change in (
        (Operation.CHANGE, partial(place.scheduler.change, job_id, JobChange(time_limit=3600))),
        (Operation.SIGNAL, partial(place.scheduler.signal, job_id, "USR1")),
        (Operation.HOLD, partial(place.scheduler.act, job_id, JobAction.HOLD)),
    ):
        if operation in known:
            with pytest.raises(Conflict):
                await change(soon())


@needs("arrays", "metadata")
async def test_an_element_that_the_array_does_not_have(place: Place):
    job_id = await place.scheduler.submit(spec(place, hold=True, array=ArrayRequest("1-2")), soon())
    with pytest.raises(NotFound):
        await place.scheduler.metadata(place.element(job_id, 9), soon())
    await place.scheduler.cancel(job_id, soon())


@needs("jobs")
async def test_a_signal_to_a_job_that_waits_is_refused_at_once(place: Place):
    if Operation.SIGNAL not in place.scheduler.capabilities.operations:
        pytest.skip("it sends no signals")
    job_id = await place.scheduler.submit(spec(place, hold=True), soon())
    with pytest.raises((Conflict, Invalid)):
        await place.scheduler.signal(job_id, "USR1", soon())
    assert (await place.job(job_id)).state == "PENDING"
    await place.scheduler.cancel(job_id, soon())
