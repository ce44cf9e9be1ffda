"""Parsers of squeue, sacct and scontrol on recorded output."""

from __future__ import annotations

import pytest

from flamecrest.server.schedulers.merging import JobRecord
from flamecrest.server.schedulers.slurm.jobs import (
    SACCT_DETAILS,
    SQUEUE_DETAILS,
    parse_job_paths,
    parse_sacct,
    parse_squeue,
    parse_stored_script,
)
from flamecrest.server.schedulers.values import JobTimes, JobUsage, Stage

from .recorded import SEP, VERSIONS, output

OWN = "/home/fireuser"


def lives(name: str) -> dict[str, JobRecord]:
    reading = parse_squeue(output(f"{name}-live").text(), SEP)
    assert (reading.unreadable_rows, reading.unknown_states) == (0, ())
    return {record.job.id: record for record in reading.records}


def pasts(name: str) -> dict[str, JobRecord]:
    reading = parse_sacct(output(f"{name}-history").text(), SEP)
    assert (reading.unreadable_rows, reading.unknown_states) == (0, ())
    return {record.job.id: record for record in reading.records}


def test_a_job_just_submitted():
    assert list(lives("lag-not-yet")) == ["72"]
    assert pasts("lag-not-yet") == {}
    job = lives("lag-not-yet")["72"].job
    assert (job.state, job.exit_code, job.times.start, job.nodes) == ("PENDING", None, None, "")
    assert (job.times.submit, job.times.limit, job.times.elapsed) == (1795299972, 600, 0)


def test_a_placeholder_in_the_history():
    past = pasts("lag-placeholder")["72"]
    assert (past.placeholder, past.job.name, past.job.group) == (True, "", None)
    assert [step.id for step in past.job.steps] == ["72.batch"]


def test_a_running_job():
    job, past = lives("running")["72"].job, pasts("running")["72"].job
    assert (job.name, past.name) == ('my "job" | é', "my `job` | é")  # the database turns " into `
    for one in (job, past):
        assert (one.state, one.exit_code, one.signal, one.reason) == ("RUNNING", 0, 0, "None")
        assert (one.user, one.group, one.account, one.partition) == ("fireuser", "fireuser", "test", "debug")
        assert (one.cluster, one.nodes, one.node_count, one.priority) == ("cluster", "nid004", 1, 100)
        assert one.working_directory == OWN
        assert (one.times.end, one.times.limit) == (None, 600)
    assert (job.times.start, past.times.start) == (1795299972, 1795299972)
    assert (job.times.suspended, past.times.suspended) == (None, 0)
    assert [(step.id, step.name, step.state) for step in past.steps] == [
        ("72.batch", "batch", "RUNNING"),
        ("72.0", "bash", "COMPLETED"),
        ("72.1", "bash", "FAILED"),
    ]
    assert (past.steps[2].exit_code, past.steps[0].times.end) == (3, None)


def test_a_job_that_has_ended():
    now, past = lives("done")["72"], pasts("done")["72"]
    assert now.stage is past.stage is Stage.ENDED
    assert now.job.state == past.job.state == "COMPLETED"
    assert past.job.times == JobTimes(1795299972, 1795299972, 1795299980, 8, 0, 600)
    assert now.job.times == JobTimes(1795299972, 1795299972, 1795299980, 8, None, 600)


@pytest.mark.parametrize(
    ("name", "job_id", "state", "code", "signal"),
    [
        ("failed", "74", "FAILED", 7, 0),
        ("killed", "75", "FAILED", 0, 9),
        ("time-limit-over", "77", "TIMEOUT", 0, 15),
        ("cancelled", "76", "CANCELLED", 0, 15),
    ],
)
def test_ends(name, job_id, state, code, signal):
    now, past = lives(name)[job_id].job, pasts(name)[job_id].job
    assert (now.state, now.exit_code, now.signal) == (state, code, signal)
    assert past.state == state
    assert (past.exit_code, past.signal) == (code, 0 if name in ("cancelled", "time-limit-over") else signal)


def test_who_cancelled_it():
    past = pasts("cancelled")["76"].job
    assert (past.state, past.kill_request_user) == ("CANCELLED", "fireuser")


def test_cancelled_before_it_began():
    now, past = lives("held-cancelled")["73"].job, pasts("held-cancelled")["73"].job
    for one in (now, past):
        assert (one.state, one.times.start, one.nodes, one.times.elapsed) == ("CANCELLED", None, "", 0)
        assert one.times.end is not None


def test_a_moment_of_cancelling_is_no_start():
    """sacct prints it as the start of waiting array elements."""
    text = output("held-cancelled-history").text().replace(f"{SEP}None{SEP}", f"{SEP}1795299998{SEP}")
    assert "1795299998" in text
    assert parse_sacct(text, SEP).records[0].job.times.start is None


def test_a_job_that_is_held():
    for one in (lives("held")["73"].job, pasts("held")["73"].job):
        assert (one.state, one.reason, one.priority) == ("PENDING", "JobHeldUser", 0)
        assert (one.exit_code, one.signal, one.times.start, one.times.suspended) == (None, None, None, None)


def test_an_array_that_has_begun():
    now = lives("array-mixed")
    assert set(now) == {"78_[4,6,8,11%2]", "78_0", "78_2"}
    waiting = now["78_[4,6,8,11%2]"]
    assert waiting.is_group
    assert str(waiting.elements) == "4,6,8,11"
    assert (now["78_2"].base_id, now["78_2"].raw_id, now["78_2"].is_group) == ("78", "80", False)
    assert set(pasts("array-mixed")) >= {"78_0", "78_2"}
    assert pasts("array-mixed")["78_0"].job.steps[0].id == "78_0.batch"


def test_one_element():
    assert list(lives("array-element-waiting")) == ["78_11"]
    assert pasts("array-element-waiting") == {}  # sacct does not find an element that waits
    assert list(lives("array-element")) == list(pasts("array-element")) == ["78_2"]


def test_a_heterogeneous_job():
    assert [(one.base_id, one.component) for one in lives("het").values()] == [("87", 0), ("87", 1)]
    assert [(one.base_id, one.component) for one in pasts("het-component").values()] == [("87", 1)]


def test_a_requeued_job():
    now, past = lives("requeue-waiting")["89"], pasts("requeue-waiting")["89"]
    assert (now.job.state, now.stage, now.restarts) == ("PENDING", Stage.WAITING, 1)
    assert (past.job.state, past.stage) == ("PENDING", Stage.WAITING)  # the word is REQUEUED
    assert (now.job.times.submit or 0) > (past.job.times.submit or 0)
    known = pasts("requeue-known")["89"]
    assert known.job.times.submit == now.job.times.submit


def test_a_suspended_job():
    assert lives("suspended")["90"].job.state == pasts("suspended")["90"].job.state == "SUSPENDED"


def test_a_name_made_to_mislead():
    """Name and folder contain line ends, the bare separator, text like a row, and a byte that is not UTF-8."""
    text = output("hostile-name-live").stdout.decode("utf-8", "replace")
    (now,) = parse_squeue(text, SEP).records
    (past,) = parse_sacct(output("hostile-name-history").text(), SEP).records
    assert now.job.id == past.job.id == "91"
    assert now.job.name == "\n9\x1fa|b\n99\x1f99\x1fRUNNING\x1f�"
    assert past.job.name.startswith("\n9\x1fa|b\n99\x1f99\x1fRUNNING\x1f")
    assert now.job.working_directory == past.job.working_directory == "/tmp/n\n\x1fx"


def test_a_list_holds_every_job_once():
    now, past = lives("list-own"), pasts("list-own")
    assert len(now) > 15
    assert len(past) > 50
    assert {one.job.user for one in (*now.values(), *past.values())} == {"fireuser"}


def test_the_paths_of_a_job():
    found = parse_job_paths(output("live-metadata").text(), "72", "")
    assert found.standard_output == f"{OWN}/o 72.txt"
    assert found.standard_error == f'{OWN}/e my "job" | é.txt'
    assert (found.id, found.standard_input, found.script) == ("72", "/dev/null", None)


@pytest.mark.parametrize("name", ["030-scontrol-show-job-running", "040-scontrol-show-job-completed"])
def test_the_paths_of_a_plain_job(name):
    found = parse_job_paths(output(name).text(), "2", "")
    assert found.standard_output == found.standard_error == f"{OWN}/slurm-2.out"


def test_the_paths_of_an_array_and_of_an_element():
    whole = parse_job_paths(output("067-scontrol-show-job-array").text(), "14", "")
    assert (whole.id, whole.standard_output) == ("14", f"{OWN}/slurm-14_%a.out")
    assert parse_job_paths(output("array-metadata").text(), "78", "").standard_output == f"{OWN}/slurm-78_%a.out"
    element = parse_job_paths(output("array-element-metadata").text(), "78", "2")
    assert (element.id, element.standard_output) == ("78_2", f"{OWN}/slurm-78_2.out")


def test_names_and_folders_made_to_mislead_do_not_hide_the_paths():
    found = parse_job_paths(output("hostile-metadata").text(), "91", "")
    assert found.standard_output == found.standard_error == "/tmp/n\n\x1fx/slurm-91.out"
    assert found.standard_input == "/dev/null"


def test_patterns_that_newer_versions_leave_in_the_paths():
    paths = ("StdErr=/h/%A_%a.err", "StdIn=/dev/null", "StdOut=/h/100%%/%j %x.o", "Power=")
    found = parse_job_paths("\n   ".join(("JobId=80 ArrayJobId=78 JobName=x", *paths)), "78", "2")
    assert (found.standard_error, found.standard_output) == ("/h/78_2.err", "/h/100%/80 %x.o")


def test_no_paths():
    found = parse_job_paths("JobId=80 JobName=x\n", "80", "")
    assert (found.standard_input, found.standard_output, found.standard_error) == (None, None, None)


def test_scripts_of_the_database():
    text = output("045-sacct-firecrest-batch-script").text()
    assert parse_stored_script(text) == output("034-scontrol-write-batch-script").text()
    assert parse_stored_script(output("573-forgotten-script").text()) == (
        "#!/bin/sh\n# This script was created by sbatch --wrap.\n\nexit 7\n"
    )
    assert parse_stored_script(output("507-live-script").text()) is None  # NONE: not in the database yet
    for name in ("147-sacct-batch-script-unknown-job", "158-sacct-batch-script-other-users-job"):
        assert parse_stored_script(output(name).text()) is None


def test_rows_that_cannot_be_read_cost_only_themselves():
    text = output("list-own-live").text()
    rows = text.split("\n")
    broken = "\n".join([rows[0].replace(SEP, "|", 3), *rows[1:]])
    reading = parse_squeue(broken, SEP)
    assert reading.unreadable_rows == 1
    assert len(reading.records) == len(parse_squeue(text, SEP).records) - 1


def test_an_id_that_cannot_be_read_is_counted():
    text = output("array-mixed-live").text().replace("78_[4,6,8,11%2]", "78_[4,6,...]")
    reading = parse_squeue(text, SEP)
    assert (reading.unreadable_rows, {one.job.id for one in reading.records}) == (1, {"78_0", "78_2"})


def test_a_state_that_no_table_knows_is_shown_with_care():
    reading = parse_squeue(output("running-live").text().replace("RUNNING", "DRIFTING"), SEP)
    assert (reading.records[0].job.state, reading.unknown_states) == ("RUNNING", ("DRIFTING",))
    # the queue still knows it, and it may be requeued: the end that is shown need not be the last one
    (record,) = parse_squeue(output("done-live").text().replace("COMPLETED", "SLEEPING"), SEP).records
    assert (record.job.state, record.stage, record.job.times.end) == ("SLEEPING", Stage.RUNNING, None)
    reading = parse_sacct(output("done-history").text().replace("COMPLETED", "DRIFTED"), SEP)
    assert (reading.records[0].job.state, reading.records[0].stage) == ("DRIFTED", Stage.ENDED)
    assert len(reading.unknown_states) == 1 + len(reading.records[0].job.steps) - 1


@pytest.mark.parametrize("version", VERSIONS)
def test_details_of_the_queue(version: str):
    found = parse_squeue(output("detailed-queue", version).text(), SEP, SQUEUE_DETAILS[:5])
    assert (found.unreadable_rows, found.unknown_states) == (0, ())
    jobs = {record.job.name: record.job for record in found.records}
    ended, array, waiting = (jobs[f"details-{name}"] for name in ("ended", "array", "waiting"))
    assert (ended.cpus, ended.memory, ended.gpus, ended.qos) == (2, 200, None, "normal")
    assert (ended.comment, ended.source, ended.dependency) == ("my own | comment", "live", None)
    assert (array.cpus, array.memory, array.comment) == (2, 300, None)  # a marker is no comment of the user's
    assert (waiting.dependency or "").startswith("afterok:")


@pytest.mark.parametrize("version", VERSIONS)
def test_details_of_the_accounting(version: str):
    found = parse_sacct(output("detailed-accounting", version).text(), SEP, SACCT_DETAILS[:6])
    assert (found.unreadable_rows, found.unknown_states) == (0, ())
    jobs = {record.job.name: record.job for record in found.records}
    ended, array = jobs["details-ended"], jobs["details-array"]
    assert (ended.cpus, ended.memory, ended.qos, ended.comment) == (2, 200, "normal", "my own | comment")
    assert ended.source == "history"
    measured = ended.usage.cpu_seconds if ended.usage is not None else None
    assert {"22.05": 0.988, "24.11": None, "26.05": 0.74}[version] == measured  # 24.11 measured nothing
    assert (array.usage, array.memory, array.comment) == (None, 300, None)


def test_what_steps_have_used():
    text = output("detailed-accounting").text().replace(f"00:00.988{SEP}{SEP}\n", f"1-00:00:01.5{SEP}51200K{SEP}\n")
    (record,) = [one for one in parse_sacct(text, SEP, SACCT_DETAILS[:6]).records if one.job.name == "details-ended"]
    assert record.job.usage == JobUsage(86401.5, 50)


# rows that have not changed


@pytest.mark.parametrize("name", ["list-own", "running", "array-mixed"])
def test_a_row_with_the_same_text_is_the_same_record(name: str):
    text = output(f"{name}-live").text()
    known: dict[str, JobRecord] = {}
    first = parse_squeue(text, SEP, known=known)
    assert len(known) == len(first.records) > 0
    other = "\x1fffffffff"
    second = parse_squeue(text.replace(SEP, other), other, known=known)
    assert second == first == parse_squeue(text, SEP)
    assert all(one is earlier for one, earlier in zip(second.records, first.records, strict=True))
    changed = parse_squeue(text.replace("RUNNING", "COMPLETED").replace("PENDING", "RUNNING"), SEP, known=known)
    assert changed.records != first.records
    assert changed == parse_squeue(text.replace("RUNNING", "COMPLETED").replace("PENDING", "RUNNING"), SEP)
    parse_squeue("", SEP, known=known)
    assert known == {}


def test_a_state_that_is_not_known_is_reported_each_time():
    text, known = output("running-live").text().replace("RUNNING", "NAPPING"), dict[str, JobRecord]()
    for _ in range(2):
        assert parse_squeue(text, SEP, known=known).unknown_states == ("NAPPING",)


# what many jobs have in common


def test_texts_that_repeat_are_kept_once():
    text = output("detailed-accounting").text()
    first, second = (parse_sacct(text, SEP, SACCT_DETAILS[:6]).records for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one == other
        for name in ("name", "reason", "qos", "user", "account", "partition", "nodes", "working_directory"):
            assert getattr(one.job, name) is getattr(other.job, name)
        assert one.job.times.submit is other.job.times.submit
        if one.raw_id == one.job.id:
            assert one.raw_id is one.job.id is one.base_id
