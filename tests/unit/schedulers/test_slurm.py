"""The commands of Slurm's dialect: values stay values, input is safe, and each command was recorded."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest

from flamecrest.server.errors import Conflict, Denied, Invalid, NotFound, Unavailable, Unsupported, Upstream
from flamecrest.server.schedulers.dialect import CancelOutcome, JobQuery
from flamecrest.server.schedulers.job_environment import SHELLS_OWN
from flamecrest.server.schedulers.job_errors import DoubtfulAnswer, NotRecordedYet, WindowTooWide
from flamecrest.server.schedulers.once.marked_paths import marked_folder, tagged_folder
from flamecrest.server.schedulers.slurm.dialect import Slurm, random_separator
from flamecrest.server.schedulers.values import Job, JobSpec, Stage
from flamecrest.server.ssh.command import RUNNING, Command, Output

from .recorded import SEP, VERSIONS, argv_of, line_of, output, recording, recordings

HOME = "/home/fireuser"
SCRIPT = "#!/bin/bash\ntrue\n"
SPEC = JobSpec(HOME, script=SCRIPT)
GREETING = {"GREETING": 'it\'s\n"x", `y` = 漢字', "EMPTY": ""}
PREFIX = "flamecrest-aaaaaaaaaaaaaaaaaaaa-"
slurm = Slurm(separator=lambda: SEP, details=False)


def commands():
    """Every command of the dialect, with the name of its recording."""
    yield "lag-not-yet-live", slurm.live(JobQuery(job_id="72"))
    yield "lag-not-yet-history", slurm.history(JobQuery(job_id="72"))
    yield "array-element-live", slurm.live(JobQuery(job_id="78_2"))
    yield "het-component-live", slurm.live(JobQuery(job_id="87+1"))
    yield "list-own-live", slurm.live(JobQuery(user="fireuser", window=3600))
    yield "list-own-history", slurm.history(JobQuery(user="fireuser", window=3600))
    yield "list-all-live", slurm.live(JobQuery(window=28800))
    yield "list-all-history", slurm.history(JobQuery(window=28800))
    yield "list-name-live", slurm.live(JobQuery(user="fireuser", account="test", name="arr", window=3600))
    yield "list-name-history", slurm.history(JobQuery(user="fireuser", account="test", name="arr", window=3600))
    yield "list-comma-live", slurm.live(JobQuery(user="fireuser", name="a,b", window=3600))
    yield "live-metadata", slurm.metadata("72")
    yield "506-live-script", slurm.scripts("72")[0]
    yield "507-live-script", slurm.scripts("72")[1]
    yield "done-cancel", slurm.cancel("72")
    yield "array-cancel-no-element", slurm.cancel("78[50-60]")
    yield "attach", slurm.attach("72", "echo attached")
    yield "nodes", slurm.nodes()
    yield "partitions", slurm.partitions(hidden=False)
    yield "partitions-hidden", slurm.partitions(hidden=True)
    yield "reservations", slurm.reservations()
    yield "accounts", slurm.accounts("fireuser")
    yield "several-users", slurm.live_of(["nosuch", "user17", "user18"])
    yield "ping", slurm.ping()
    yield "submit-script-path", slurm.submit(JobSpec(HOME, script_path="/tmp/hsconf/fail.sh"))
    yield "submit-ERR-bad-reservation", slurm.submit(replace(SPEC, reservation="nosuch"))
    marked = replace(SPEC, script="#!/bin/sh\nsleep 1\n", marker=f"{PREFIX}aaaaaaaa")
    yield "submit-marked", slurm.submit(marked)
    own = replace(marked, comment="mine", marker=f"{PREFIX}bbbbbbbb")
    yield "submit-marked-own-comment", slurm.submit(own)
    hidden = replace(own, standard_input="/dev/null", marker="flamecrest-eeeeeeeeeeeeeeeeeeee-eeeeeeee")
    yield "submit-marked-own-input", slurm.submit(hidden)
    yield from zip(("marked-queue", "marked-accounting"), slurm.marked("fireuser"), strict=True)
    every = {"name": 'my "job" | é', "account": "test", "partition": "debug", "constraints": "fake"}
    paths = {"standard_output": f"{HOME}/o %j.txt", "standard_error": f"{HOME}/e %x.txt", "standard_input": "/dev/null"}
    options: dict[str, Any] = {**every, **paths}
    yield "submit-every-option", slurm.submit(replace(SPEC, env=GREETING, **options))


def test_every_command_is_one_that_was_recorded():
    for name, command in commands():
        assert line_of(command) == recording(name).line, name


def test_only_reads_may_be_repeated():
    for _, command in commands():
        program = argv_of(command)[0]
        assert command.repeatable == (program not in ("sbatch", "srun", "scancel")), program


def test_the_folder_of_the_programs():
    there = Slurm(bin_dir="/opt/slurm/bin/", separator=lambda: SEP, details=False)
    assert there.ping().argv[0] == "/opt/slurm/bin/scontrol"
    assert "/opt/slurm/bin/sbatch" in there.submit(SPEC).argv
    assert "/opt/slurm/bin/srun" in there.attach("1", "true").argv


def test_a_mark_is_never_the_same():
    assert len({random_separator() for _ in range(100)}) == 100
    assert Slurm().nodes().argv != Slurm().nodes().argv


# submitting


PRINTED = {
    b"315\n": "315",
    b"315": "315",
    b" 315 \r\n": "315",
    b"315;west\n": "315.west",
    b"Welcome to 42!\n7 mails\n\n315\n": "315",
    b"315\nRemaining budget: 12 node hours\n": "315",
    b"0\n315\n4294967295\n": "315",  # no job has these numbers
    b"Submitted batch job 4711\n": "4711",
    b"Submitted batch job 4711 on cluster west\n": "4711",
    b"Submitted batch job 96 on cluster west.\n96;west\n": "96.west",
    b"Submitted batch job 4711 estimates 2 SUs\n": "4711",
    b"sbatch-wrapper: checked\nSubmitted batch job 4711\n250\n": "4711",
    b"\x1b[32mSubmitted batch job 4711\x1b[0m\n": "4711",
    b"\xff\xfe\n4711;west\n": "4711.west",
    b"\xef\xbb\xbf4711\n": "4711",
    b"4711;3west\n": "4711.3west",
    b"12;34\n4711\n": "4711",  # no cluster can be named so
    b"12;batch\n4711\n": "4711",
    b"12;a/b\n4711\n": "4711",
    b"x" * 3_000_000 + b"\n4711\n": "4711",
    b"4711\n" + b"x" * 3_000_000: "4711",
    b"4711\n" + b"y\n" * 3_000_000: "4711",
}


@pytest.mark.parametrize(("printed", "job_id"), PRINTED.items())
@pytest.mark.parametrize("status", [0, 1, 3, 143])
def test_an_id_in_the_output_is_that_of_the_job(printed, job_id, status):
    warning = b"sbatch: warning: can't honor --ntasks-per-node\n"
    for errors in (b"", warning):
        assert slurm.submit(SPEC).parse(Output(status, printed, errors)) == job_id


@pytest.mark.parametrize("printed", [b"", b"315", b"thank you\n", b"7 mails\n", b"315 mails\n31", b"0\n", b"1.5\n"])
def test_output_without_a_complete_line_with_an_id_is_not_enough(printed):
    is_enough = slurm.submit(SPEC).is_enough
    assert is_enough is not None
    assert not is_enough(Output(RUNNING, printed))
    assert is_enough(Output(RUNNING, b"315\n" + printed))
    assert slurm.submit(SPEC).parse(Output(RUNNING, b"4711\n12")) == "4711"


@pytest.mark.parametrize("printed", [b"4711;34\n", b"4711;batch\n", b"4711;a b\n"])
def test_an_id_that_cannot_be_addressed_may_be_that_of_a_job(printed):
    with pytest.raises(Upstream, match=r"4711.*may have been submitted"):
        slurm.submit(SPEC).parse(Output(0, printed))


def test_of_endless_output_only_both_ends_are_read():
    """It is read in the event loop, again and again while more comes."""
    is_enough = slurm.submit(SPEC).is_enough
    assert is_enough is not None
    endless = b"y\n" * 500_000
    assert not is_enough(Output(RUNNING, endless + b"4711\n" + endless))
    assert is_enough(Output(RUNNING, endless + b"4711\n"))
    assert is_enough(Output(RUNNING, b"4711\n" + endless))


def test_a_failed_submission_is_no_job_whatever_else_is_printed():
    failed = b"sbatch: error: Batch job submission failed: Invalid qos specification\n"
    with pytest.raises(Invalid, match="Invalid qos"):
        slurm.submit(SPEC).parse(Output(1, b"1000\n", failed))
    with pytest.raises(Invalid, match="--test-only"):
        slurm.submit(SPEC).parse(Output(0, b"1000\n", b"sbatch: Job 94 to start at 2026-11-29T00:00:00 using 1\n"))


def test_a_search_is_certain_when_the_accounting_has_the_jobs_whose_markers_are_hidden():
    def row(*cells: str) -> str:
        return "".join(f"{cell}{SEP}" for cell in cells) + "\n"

    def search(queue: str, records: str, beginning: str = PREFIX) -> str | None:
        live, history = dialect.marked("ada")
        found = live.parse(Output(0, queue.encode())).and_also(history.parse(Output(0, records.encode())))
        if (job_id := found.first(beginning)) is None and not found.is_certain(beginning):
            raise NotRecordedYet
        return job_id

    dialect = Slurm(separator=lambda: SEP)
    tagged = tagged_folder("/home", f"{PREFIX}aaaaaaaa")
    new = row("7_[1-3]", "ada", "/dev/null", tagged, "(null)")
    other = row("6", "ada", "/dev/null", "/home", "flamecrest-bbbbbbbbbbbbbbbbbbbb-bbbbbbbb")
    plain = [row("7", "ada", "/dev/null", folder, "of sbatch") for folder in ("/home", "/home///.", "/", "")]
    assert search(other + "".join(plain), "") is None
    assert search(new, "", "flamecrest-aabaaaaaaaaaaaaaaaaa-") is None, "another marker"
    for late in ("", row("7", "ada", "", "", "", ""), row("8", "ada", "debug", "/home", "", "sbatch x")):
        with pytest.raises(NotRecordedYet):
            search(new, late)
    assert search(new, row("7_1", "ada", "debug", tagged, "mine", "sbatch x")) is None
    marked = row("7", "ada", "debug", tagged, "mine", f"sbatch --chdir=/{PREFIX}aaaaaaaa --chdir=/home")
    assert search(new, marked) == "7"
    assert search(new, marked.replace("ada", "bob") + row("7", "ada", "debug", tagged, "", "sbatch")) is None
    assert search("", row("9", "ada", "debug", "/home", "", f"sbatch --comment={PREFIX}aaaaaaaa")) == "9"
    folder = marked_folder("/home", f"{PREFIX}aaaaaaaa") or ""
    for queue, past in (
        (row("9", "ada", "(null)", folder, "mine"), ""),
        ("", row("9", "ada", "x", folder, "", "")),
    ):
        assert search(queue, past) == "9", "of slurmrestd"
    live, history = dialect.marked("ada")
    live.parse(Output(0, new.encode()))
    without = history.parse(Output(1, b"", b"Slurm accounting storage is disabled\n"))
    assert (without.is_certain(PREFIX), without.is_certain("flamecrest-bbb")) == (False, True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_queue_shows_each_marker_or_its_beginning(version):
    """The last jobs of the recordings: three of sbatch, the last of which hides its marker; then two of slurmrestd."""
    dialect = Slurm(separator=lambda: SEP)
    queue, records = output("marked-queue", version), output("marked-accounting", version)
    live, history = dialect.marked("fireuser")
    queued, hidden = live.parse(queue), "flamecrest-eeeeeeeeeeeeeeeeeeee-eeeeeeee"
    rest = {f"flamecrest-{letter * 20}-{letter * 8}" for letter in "cd"}
    assert queued.ids.keys() == {f"{PREFIX}aaaaaaaa", f"{PREFIX}bbbbbbbb", *rest}
    assert int(queued.ids[f"{PREFIX}bbbbbbbb"]) == int(queued.ids[f"{PREFIX}aaaaaaaa"]) + 1
    known = history.parse(records)
    assert not known.hidden
    assert {hidden, *queued.ids} <= known.ids.keys()
    late = history.parse(Output(0, b""))
    assert late.is_certain(f"{PREFIX}aaaaaaaa")
    assert not late.is_certain(hidden), "it may be the one that is looked for"
    assert history.parse(records).is_certain(hidden)


MARKED = replace(SPEC, marker="flamecrest-aaaaaaaaaaaaaaaaaaaa-aaaaaaaa")


def test_an_id_beside_words_of_failure_is_doubtful():
    failed = b"sbatch: error: Batch job submission failed: Invalid qos specification\n"
    with pytest.raises(DoubtfulAnswer) as caught:
        slurm.submit(MARKED).parse(Output(1, b"315\n", failed))
    assert isinstance(caught.value.likely, Invalid)
    with pytest.raises(Invalid, match="Invalid qos"):
        slurm.submit(MARKED).parse(Output(1, b"no number\n", failed))


@pytest.mark.parametrize("printed", [b"315\n42\n", b"315\nQuota:\n42\n", b"42\n315\n42\n"])
def test_several_numbers_are_doubtful(printed):
    command = slurm.submit(MARKED)
    with pytest.raises(DoubtfulAnswer) as caught:
        command.parse(Output(0, printed))
    assert caught.value.likely == "42"
    assert command.is_enough is not None
    assert command.is_enough(Output(RUNNING, printed))
    assert command.parse(Output(0, b"7\n" + printed + b"315;west\n")) == "315.west"
    assert command.parse(Output(0, printed + b"Submitted batch job 315\n")) == "315"
    assert slurm.submit(SPEC).parse(Output(0, printed)) == "42"


def test_recorded_submissions_that_wait_or_name_a_cluster():
    assert slurm.submit(SPEC).parse(output("submit-wait")) == "425"
    assert slurm.submit(SPEC).parse(output("submit-wait-ended")) == "426"
    assert slurm.submit(SPEC).parse(output("submit-cluster")) == "427.cluster"
    sentence = output("submit-cluster-sentence")
    assert slurm.submit(SPEC).parse(sentence) == "428"  # the job has not chosen the cluster
    for directive in ("--clusters=cluster", "--clusters cluster", "-Mcluster", "-M cluster", "-HM cluster"):
        chosen = replace(SPEC, script=f"#!/bin/sh\n#SBATCH {directive}\ntrue\n")
        assert slurm.submit(chosen).parse(sentence) == "428.cluster"
    for chosen in (replace(SPEC, env={"SBATCH_CLUSTERS": "x"}), replace(SPEC, script=None, script_path="/job.sh")):
        assert slurm.submit(chosen).parse(sentence) == "428.cluster"
    with pytest.raises(Invalid, match="No cluster 'west' known by database"):
        slurm.submit(SPEC).parse(output("submit-ERR-unknown-cluster"))


def test_every_command_about_a_job_of_another_cluster_names_the_cluster():
    query = JobQuery(job_id="96.west")
    commands: list[Command[Any]] = [
        slurm.live(query),
        slurm.history(query),
        slurm.metadata("96.west"),
        slurm.cancel("96.west"),
    ]
    commands += slurm.scripts("96_4.west")
    for command in commands:
        assert command.argv.count("--clusters=west") == 1
        assert "west" not in "".join(word for word in command.argv if word != "--clusters=west")
    with pytest.raises(Unsupported):
        slurm.raw_job_id("96.west", [])


def test_an_unknown_cluster_has_no_jobs():
    asked = ((slurm.live(JobQuery(job_id="96.west")), "live"), (slurm.metadata("96.west"), "metadata"))
    for command, name in (*asked, (slurm.cancel("96.west"), "cancel")):
        with pytest.raises(NotFound, match="Job not found: No cluster 'west' known"):
            command.parse(output(f"unknown-cluster-{name}"))
    assert not slurm.history(JobQuery(job_id="96.west")).parse(output("unknown-cluster-history")).records


def test_the_cluster_of_the_login_node_is_left_out_of_ids():
    config = output("local-cluster")
    assert slurm.local_id("96") is None
    for job_id, local in (("96.cluster", "96"), ("96_4.Cluster", "96_4"), ("96.west", "96.west")):
        command = slurm.local_id(job_id)
        assert command is not None
        assert command.parse(config) == local


@pytest.mark.parametrize("words", ["Too wide of a date range in query", "Query result exceeds size limit"])
@pytest.mark.parametrize("status", [0, 1, 96])
def test_a_search_that_the_database_refuses_is_no_empty_history(words, status):
    said = f"sacct: error: slurmdbd: {words}\n".encode()
    with pytest.raises(WindowTooWide) as caught:
        slurm.history(JobQuery(window=604800)).parse(Output(status, b"", said))
    assert words in caught.value.public
    assert caught.value.fields[0].name == "time_window"


def test_an_error_without_rows_is_no_empty_answer_whatever_the_exit_status():
    down = b"slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
    with pytest.raises(Unavailable):
        slurm.live(JobQuery(user="u")).parse(Output(0, b"", down))
    down = b"sacct: error: Problem talking to the database: Connection refused\n"
    with pytest.raises(Unavailable):
        slurm.history(JobQuery(user="u", window=60)).parse(Output(0, b"", down))
    warned = Output(0, b"", b"sacct: warning: can't set locale\nperl: warning: Setting locale failed.\n")
    assert not slurm.history(JobQuery(user="u", window=60)).parse(warned).records
    rows = output("running-live")
    warned = Output(0, rows.stdout, b"squeue: error: plugin_load_from_file: dlopen(x.so): no such file\n")
    assert slurm.live(JobQuery(job_id="72")).parse(warned).records


@pytest.mark.parametrize("words", ["Access/permission denied", "Socket timed out on send/recv operation"])
def test_a_cancellation_that_failed_for_a_job_is_not_done_whatever_the_exit_status(words):
    said = f"scancel: Terminating job 7\nscancel: error: Kill job error on job id 7: {words}\n".encode()
    with pytest.raises((Denied, Unavailable)):
        slurm.cancel("7").parse(Output(0, b"", said))


def test_recorded_ids():
    assert slurm.submit(SPEC).parse(output("submit-every-option")) == "72"
    assert slurm.submit(SPEC).parse(output("submit-ERR-bad-locale")) == "97"


def test_a_refusal_is_raised():
    for one in recordings("[5-6]??-submit-ERR-bad-[apr]*"):
        with pytest.raises(Invalid):
            slurm.submit(SPEC).parse(one.output)
    with pytest.raises(Upstream, match="may have been submitted"):
        slurm.submit(SPEC).parse(Output(0, b""))


FIELDS = {
    "working_directory": "workingDirectory",
    "name": "name",
    "account": "account",
    "partition": "partition",
    "reservation": "reservation",
    "constraints": "constraints",
    "standard_input": "standardInput",
    "standard_output": "standardOutput",
    "standard_error": "standardError",
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_stays_the_value_of_its_option(field):
    for value in ("--uid=0", "-x", "a b", "$(id)", "x'; id; '", "é", "a,b", "%j", '"', "/-"):
        given = f"/{value}" if field == "working_directory" else value
        change: dict[str, Any] = {field: given}
        argv = slurm.submit(replace(SPEC, **change)).argv
        options = argv[argv.index("sbatch") + 1 :]
        assert [option for option in options if option.endswith(f"={given}")], value
        assert all(option.startswith("--") for option in options), value
    assert len(options) == (2 if field == "working_directory" else 3)


@pytest.mark.parametrize("field", [*FIELDS, "script_path"])
def test_one_line_fields_are_one_line(field):
    for value in ("a\nb", "a\rb", "a\x00b", "a\x1bb", "a\x7f", "\ud800", "x" * 5000):
        change = {field: f"/{value}", "script": None} if field == "script_path" else {field: f"/{value}"}
        with pytest.raises(Invalid) as caught:
            slurm.submit(replace(SPEC, **change))
        assert caught.value.fields[0].name == {**FIELDS, "script_path": "scriptPath"}[field], ascii(value)


def test_empty_fields_are_left_out():
    empty = replace(SPEC, name="", account="", partition="", reservation="", constraints="", standard_output="")
    assert slurm.submit(empty).argv == slurm.submit(SPEC).argv


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"script": None}, "script"),
        ({"script_path": "/a"}, "script"),
        ({"script": "#!/bin/sh\n\x00"}, "script"),
        ({"script": "#!/bin/sh\n\ud800"}, "script"),
        ({"script": None, "script_path": "a.sh"}, "scriptPath"),
        ({"script": None, "script_path": ""}, "scriptPath"),
        ({"working_directory": "work"}, "workingDirectory"),
        ({"working_directory": ""}, "workingDirectory"),
        ({"env": {"A-B": "x"}}, "env"),
        ({"env": {"": "x"}}, "env"),
        ({"env": {"1A": "x"}}, "env"),
        ({"env": {"É": "x"}}, "env"),
        ({"env": {"A\n": "x"}}, "env"),
        ({"env": {"A=B": "x"}}, "env"),
        ({"env": {"x[$(id)]": "x"}}, "env"),
        ({"env": {"A": "x\x00B=y"}}, "env"),
        ({"env": {"A": "\ud800"}}, "env"),
        *(({"env": {name: "1"}}, "env") for name in sorted(SHELLS_OWN)),
    ],
)
def test_what_can_never_work_is_refused_before_anything_runs(change, field):
    with pytest.raises(Invalid) as caught:
        slurm.submit(replace(SPEC, **change))
    assert [(one.location, one.name) for one in caught.value.fields] == [("body", field)]


def test_a_refusal_does_not_repeat_secret_values():
    with pytest.raises(Invalid) as caught:
        slurm.submit(replace(SPEC, env={"TOKEN": "s3cret\x00"}))
    assert "s3cret" not in caught.value.public


def test_script_and_environment_are_not_in_the_process_list():
    command = slurm.submit(replace(SPEC, script="#!/bin/sh\necho s3cret\n", env={"TOKEN": "s3cret"}))
    assert "s3cret" not in shlex.join(command.argv)
    assert command.env == {"TOKEN": "s3cret"}  # sent over standard input, too
    assert command.stdin == b"#!/bin/sh\necho s3cret\n"


# asking


@pytest.mark.parametrize("value", ["a,b", 'q"q', "a b", "a\nb", "--all", "", "é", "a;b", "x'y", "*", "%j", "a\x1fb"])
def test_filters_that_slurm_would_take_otherwise_are_not_passed_on(value):
    plain = JobQuery(user="u", window=60)
    for field in ("name", "account"):
        for factory in (slurm.live, slurm.history):
            assert factory(plain._replace(**{field: value})).argv == factory(plain).argv


@pytest.mark.parametrize("value", ["arr", "my.job-1_x", "a=b", "a@b:c/d+e"])
def test_plain_filters_are_passed_on(value):
    ask = JobQuery(user="u", account=value, name=value, window=60)
    assert {f"--name={value}", f"--account={value}", "--user=u"} <= set(slurm.live(ask).argv)
    assert {f"--name={value}", f"--accounts={value}", "--user=u"} <= set(slurm.history(ask).argv)


def test_all_users_and_the_window():
    assert "--allusers" in slurm.history(JobQuery(window=60)).argv
    assert "--starttime=now-60seconds" in slurm.history(JobQuery(window=60)).argv
    assert "--allusers" not in slurm.history(JobQuery(user="u", window=60)).argv


@pytest.mark.parametrize(
    ("ask", "name", "account", "wanted"),
    [
        (JobQuery(), "x", None, True),
        (JobQuery(name="a,b"), "a,b", None, True),
        (JobQuery(name="a,b"), "a", None, False),
        (JobQuery(name="UPPER"), "upper", None, False),
        (JobQuery(name='q"q'), "q`q", None, True),
        (JobQuery(account="TEST"), "x", "test", True),
        (JobQuery(account="test"), "x", None, False),
        (JobQuery(account="test", name="x"), "x", "other", False),
    ],
)
def test_what_is_wanted(ask, name, account, wanted):
    assert slurm.matches(ask, Job("1", name, "RUNNING", Stage.RUNNING, account=account)) is wanted


def test_an_unknown_job_is_an_empty_answer():
    assert not slurm.live(JobQuery(job_id="9")).parse(output("unknown-live")).records
    assert not slurm.live(JobQuery(job_id="9")).parse(output("140-squeue-ERR-unknown-job")).records
    assert not slurm.history(JobQuery(job_id="9")).parse(output("unknown-history")).records
    for name in ("131-scontrol-show-job-ERR-unknown", "132-scontrol-show-job-ERR-unknown-oneliner"):
        assert slurm.metadata("9").parse(output(name)) is None
    assert not slurm.live(JobQuery(user="nobody9")).parse(output("list-nobody-live")).records
    assert not slurm.history(JobQuery(user="nobody9")).parse(output("list-nobody-history")).records


def test_no_accounting_is_an_empty_history_and_no_accounts():
    assert not slurm.history(JobQuery(job_id="9")).parse(output("no-accounting-history")).records
    assert slurm.accounts("u").parse(output("no-accounting-accounts")) is None
    assert slurm.scripts("9")[1].parse(output("no-accounting-script")) is None


def test_daemons_that_are_down():
    for name in ("ctld-down-live", "ctld-hangs-live", "218-ctld-down-ERR-squeue", "231-munge-down-ERR-squeue"):
        with pytest.raises(Unavailable, match="The scheduler does not answer"):
            slurm.live(JobQuery(job_id="9")).parse(output(name))
    for name in ("dbd-down-history", "226-dbd-down-ERR-sacct"):
        with pytest.raises(Unavailable, match="Connection refused"):
            slurm.history(JobQuery(job_id="9")).parse(output(name))
    for command, what in ((slurm.nodes(), "nodes"), (slurm.partitions(hidden=True), "partitions")):
        with pytest.raises(Unavailable):
            command.parse(output(f"ctld-down-{what}"))
    with pytest.raises(Unavailable):
        slurm.reservations().parse(output("ctld-down-reservations"))
    with pytest.raises(Unavailable):
        slurm.metadata("9").parse(output("ctld-down-metadata"))
    for name in ("ctld-down-ping", "ctld-hangs-ping"):
        with pytest.raises(Unavailable, match="is DOWN"):
            slurm.ping().parse(output(name))
    assert slurm.accounts("u").parse(output("dbd-down-accounts")) is None
    assert slurm.accounts("u").parse(output("227-dbd-down-ERR-sacctmgr")) is None


def test_programs_that_are_not_there():
    gone = Output(127, b"", b"bash: line 1: /nosuch/scontrol: No such file or directory\n")
    for command in (
        slurm.nodes(),
        slurm.ping(),
        slurm.accounts("u"),
        slurm.live(JobQuery()),
        slurm.history(JobQuery()),
    ):
        with pytest.raises(Upstream):
            command.parse(gone)


def test_a_column_that_squeue_does_not_know_is_no_empty_answer():
    complaint = Output(0, b"\n", b"squeue: error: Invalid job format specification: NoSuch\n")
    with pytest.raises(Upstream, match="NoSuch"):
        slurm.live(JobQuery()).parse(complaint)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("099-scancel-verbose", CancelOutcome.DONE),
        ("held-cancel", CancelOutcome.DONE),
        ("het-cancel-component", CancelOutcome.DONE),
        ("088-scancel-verbose-again-done", CancelOutcome.ENDED),
        ("done-cancel", CancelOutcome.ENDED),
        ("150-scancel-ERR-unknown-job-verbose", CancelOutcome.UNKNOWN),
        ("forgotten-cancel", CancelOutcome.UNKNOWN),
        ("array-cancel-element-again", CancelOutcome.UNKNOWN),
    ],
)
def test_cancelling(name, expected):
    assert slurm.cancel("1").parse(output(name)) is expected


@pytest.mark.parametrize("version", VERSIONS)
def test_a_component_that_waits_is_not_cancelled_alone(version):
    with pytest.raises(Conflict, match="cancelled together"):
        slurm.cancel("205+1").parse(output("het-cancel-waiting-component", version))


def test_scripts():
    live, past = slurm.scripts("72")
    assert live.parse(output("506-live-script")) == '#!/bin/bash\necho "$GREETING"\nsleep 8\n'
    for name in (
        "139-scontrol-write-batch-script-ERR-unknown",
        "157-scontrol-write-batch-script-ERR-other-user",
        "other-users-script",
        "ctld-down-script",
    ):
        assert live.parse(output(name)) is None
    assert past.parse(output("dbd-down-script")) is None
    assert (past.parse(output("573-forgotten-script")) or "").endswith("exit 7\n")


@pytest.mark.parametrize("job_id", ["1;rm", "", "abc", "1,2", "--all"])
def test_ids_are_checked_by_every_command(job_id):
    for make in (slurm.metadata, slurm.scripts, slurm.cancel, lambda text: slurm.live(JobQuery(job_id=text))):
        with pytest.raises(Invalid):
            make(job_id)
    with pytest.raises(NotFound):
        slurm.cancel("0")


@pytest.mark.parametrize("command", ["", "  ", "a\x00b", "\ud800", "x" * 100_001])
def test_commands_that_cannot_be_run_in_a_job(command):
    with pytest.raises(Invalid) as caught:
        slurm.attach("1", command)
    assert caught.value.fields[0].name == "command"


def test_a_command_in_a_job_stays_one_word():
    command = "echo 'a b' > \"$HOME/x\"; --jobid=2\n"
    assert slurm.attach("1", command).argv[-3:] == ("bash", "-c", command)
