"""Failures of Slurm's commands: the kind of the error, and Slurm's message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.errors import (
    Conflict,
    Denied,
    GatewayError,
    Invalid,
    NotFound,
    Timeout,
    TooLarge,
    Unavailable,
    Upstream,
)
from flamecrest.server.schedulers.capabilities import JOB_FIELDS
from flamecrest.server.schedulers.job_errors import REFUSED_FIELD
from flamecrest.server.schedulers.slurm import errors
from flamecrest.server.ssh.command import Output

from .recorded import output

REFUSED = {
    "110-sbatch-ERR-bad-partition": "invalid partition specified: nosuch",
    "111-sbatch-ERR-bad-account": "Invalid account or account/partition combination specified",
    "112-sbatch-ERR-bad-qos": "Invalid qos specification",
    "113-sbatch-ERR-bad-constraint": "Invalid feature specification",
    "114-sbatch-ERR-bad-reservation": "Requested reservation is invalid",
    "116-sbatch-ERR-no-script": "Unable to open file nosuch.sh",
    "117-sbatch-ERR-no-interpreter-line": "The first line must start with #! followed by",
    "118-sbatch-ERR-empty-stdin": "Batch script is empty!",
    "121-sbatch-ERR-too-much-memory": "Requested node configuration is not available",
    "124-sbatch-ERR-bad-option": "unrecognized option '--nosuch'",
    "125-sbatch-ERR-bad-time": "Invalid --time specification",
    "127-sbatch-ERR-bad-array": "Invalid job array specification",
    "128-sbatch-ERR-bad-directive": "unrecognized option '--nosuchoption=1'",
    "163-sbatch-ERR-user-without-association": "Invalid account or account/partition combination",
    "238-sbatch-ERR-partition-inactive": "Required partition not available (inactive or drain)",
    "328-enforce-all-sbatch-ERR-too-many-nodes": "More processors requested than permitted",
    "329-enforce-all-sbatch-ERR-too-many-cpus": "More processors requested than permitted",
    "330-enforce-all-sbatch-ERR-too-much-time": "Requested time limit is invalid",
    "submit-ERR-nul-in-script": "contain a NULL character",
    "submit-ERR-crlf": "Batch script contains DOS line breaks",
    "submit-ERR-test-only": "Job 94 to start at",
    "054-sbatch-test-only": "Job 6 to start at",
    "submit-ERR-name-too-long": "Pathname of a file, directory or other parameter too long",
    "submit-ERR-whitespace": "Batch script contains only whitespace!",
    "submit-ERR-empty": "Batch script is empty!",
    "submit-ERR-no-interpreter": "must start with #!",
    "submit-ERR-bad-partition": "Invalid partition name specified",
    "submit-ERR-bad-account": "Invalid account",
    "submit-ERR-bad-constraint": "Invalid feature specification",
    "submit-ERR-bad-reservation": "Requested reservation is invalid",
    "submit-ERR-no-file": "Unable to open file /nosuch.sh",
    "submit-ERR-unreadable-file": "Unable to open file /etc/shadow",
    "submit-ERR-directory": "Batch script is empty!",
    "submit-ERR-bad-directive": "Invalid --time specification",
    "submit-ERR-bad-begin": "Invalid time specification (pos=0): abc",
    "submit-ERR-bad-nodes": '"abc" is not a valid node count',
    "submit-ERR-unknown-directive": "unrecognized option '--nosuch=1'",
    "submit-ERR-account-from-env": "Invalid account",
}


KINDS = {
    "110-sbatch-ERR-bad-partition": ("unknownPartition", "partition"),
    "111-sbatch-ERR-bad-account": ("unknownAccount", "account"),
    "112-sbatch-ERR-bad-qos": ("unknownQos", "qos"),
    "113-sbatch-ERR-bad-constraint": ("unknownFeatures", "constraints"),
    "114-sbatch-ERR-bad-reservation": ("unknownReservation", "reservation"),
    "115-sbatch-ERR-reservation-not-allowed": ("notPermitted", None),
    "116-sbatch-ERR-no-script": ("invalidScript", "script"),
    "117-sbatch-ERR-no-interpreter-line": ("invalidScript", "script"),
    "121-sbatch-ERR-too-much-memory": ("impossibleResources", "resources.memory"),
    "124-sbatch-ERR-bad-option": ("invalidOption", "native"),
    "125-sbatch-ERR-bad-time": ("invalidTimeLimit", "timeLimit"),
    "127-sbatch-ERR-bad-array": ("invalidArray", "array"),
    "163-sbatch-ERR-user-without-association": ("unknownAccount", "account"),
    "238-sbatch-ERR-partition-inactive": ("partitionUnavailable", "partition"),
    "328-enforce-all-sbatch-ERR-too-many-nodes": ("impossibleResources", "resources.tasks"),
    "330-enforce-all-sbatch-ERR-too-much-time": ("invalidTimeLimit", "timeLimit"),
    "submit-ERR-nul-in-script": ("invalidScript", "script"),
    "submit-ERR-crlf": ("invalidScript", "script"),
    "submit-ERR-name-too-long": (None, None),
    "submit-ERR-bad-partition": ("unknownPartition", "partition"),
    "submit-ERR-bad-begin": ("invalidTime", "begin"),
    "submit-ERR-bad-nodes": ("impossibleResources", "resources.nodes"),
}


@pytest.mark.parametrize(("name", "kind", "field"), [(name, *kind) for name, kind in KINDS.items()])
def test_a_refusal_has_a_kind_and_names_the_field_if_the_request_has_it(name, kind, field):
    others = ("resources.features", "resources.cpusPerTask", "resources.tasksPerNode", "resources.memoryPerCpu")
    given = {*JOB_FIELDS, "script"} - {*others, "deadline"}
    error = errors.submit_error(output(name), given)
    assert error.refusal == kind
    assert [one.name for one in error.fields] == ([] if field is None else [field])
    assert all(one.message == REFUSED_FIELD for one in error.fields)  # the scheduler's words are in `message`
    assert errors.submit_error(output(name)).fields == ()


@pytest.mark.parametrize(("name", "said"), REFUSED.items())
def test_a_refusal_keeps_the_schedulers_words(name, said):
    error = errors.submit_error(output(name))
    assert type(error) is Invalid
    assert said in error.public
    assert "sbatch:" not in error.public
    assert "\n" not in error.public


@pytest.mark.parametrize("name", ["115-sbatch-ERR-reservation-not-allowed", "submit-ERR-reservation-denied"])
def test_a_reservation_of_others_is_denied(name):
    error = errors.submit_error(output(name))
    assert type(error) is Denied
    assert "Access denied to requested reservation" in error.public


@pytest.mark.parametrize("name", ["217-ctld-down-ERR-sbatch", "232-munge-down-ERR-sbatch", "ctld-down-submit"])
def test_no_submission_while_the_controller_is_away(name):
    error = errors.submit_error(output(name))
    assert type(error) is Unavailable
    assert "may have been submitted" not in error.public


def test_a_controller_that_hangs_may_have_taken_the_job():
    """As recorded: sbatch gave up after MessageTimeout; the job ran when the controller continued."""
    error = errors.submit_error(output("ctld-hangs-submit"))
    assert isinstance(error, Timeout)
    assert "may have been submitted" in error.public
    assert "Socket timed out" in error.public


@pytest.mark.parametrize(
    "words",
    [
        "Resource temporarily unavailable",
        "Unable to contact slurm controller (connect failure)",
        "Slurm backup controller in standby mode",
        "Controller is in standby mode, try a different controller",
        "Requested nodes are busy",
        "Unable to create job record, try again",
        "I/O error writing script/environment to file",
        "System submissions disabled",
        "Protocol authentication error",
        "Connection refused",
        "No route to host",
    ],
)
def test_a_failure_that_passes_is_no_mistake_of_the_caller(words):
    error = errors.submit_error(Output(1, b"", f"sbatch: error: Batch job submission failed: {words}\n".encode()))
    assert type(error) is Unavailable
    assert words in error.public
    assert "may have been submitted" not in error.public


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: fetch_config: DNS lookup failed\nsbatch: fatal: Could not establish a configuration source\n",
        "sbatch: fatal: Unable to process configuration file\n",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n",
        "sbatch: error: Slurm job queue full, sleeping and retrying\n",
        "sbatch: error: Job creation temporarily disabled, retrying\n",
        "bash: fork: retry: Resource temporarily unavailable\n",
        'sbatch: error: Munge encode failed: Failed to connect to "/run/munge/munge.socket.2": Connection refused\n',
    ],
)
def test_other_words_of_failures_that_pass(said):
    assert type(errors.submit_error(Output(1, b"", said.encode()))) is Unavailable


@pytest.mark.parametrize(
    "words",
    [
        "Socket timed out on send/recv operation",
        "Zero Bytes were transmitted or received",
        "Unable to contact slurm controller (receive failure)",
        "Unable to contact slurm controller (send failure)",
        "Message receive failure",
        "Unexpected message received",
        "Communication shutdown failure",
        "Header lengths are longer than data received",
        "Connection reset by peer",
        "Transport endpoint is not connected",
    ],
)
def test_a_request_without_a_whole_answer_may_have_submitted_the_job(words):
    retried = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
    for before in ("", retried):
        said = f"{before}sbatch: error: Batch job submission failed: {words}\n"
        error = errors.submit_error(Output(1, b"", said.encode()))
        assert isinstance(error, Timeout)
        assert words in error.public
        assert "may have been submitted" in error.public


@pytest.mark.parametrize(
    "words",
    [
        "Incompatible versions of client and server code",
        "Plugin initialization failed",
        "Slurm internal error, contact system administrator",
    ],
)
def test_a_faulty_installation_is_no_mistake_of_the_caller(words):
    error = errors.submit_error(Output(1, b"", f"sbatch: error: Batch job submission failed: {words}\n".encode()))
    assert type(error) is Upstream


@pytest.mark.parametrize("status", [124, 137, 143])
def test_a_submission_that_a_signal_ended_may_have_submitted_the_job(status):
    error = errors.submit_error(Output(status))
    assert isinstance(error, Upstream)
    assert "may have been submitted" in error.public


def test_no_job_named_is_no_success():
    error = errors.submit_error(Output(0, b"thank you\n"))
    assert isinstance(error, Upstream)
    assert "may have been submitted" in error.public
    assert "thank you" in error.public


def test_a_program_that_is_not_there():
    error = errors.submit_error(output("submit-ERR-no-sbatch"))
    assert type(error) is Upstream
    assert "sbatch" in error.public
    assert "/nosuch/sbatch" in (error.detail or "")


def test_a_missing_program_that_the_command_is_run_with_is_named():
    error = errors.command_error("squeue", Output(127, b"", b"sh: 1: exec: timeout: not found\n"))
    assert error.public == "The scheduler's command squeue cannot be run on this cluster: timeout is not installed"
    error = errors.command_error("squeue", Output(127, b"", b"timeout: failed to run command 'squeue': No such file\n"))
    assert error.public == "The scheduler's command squeue cannot be run on this cluster"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("218-ctld-down-ERR-squeue", Unavailable),
        ("220-ctld-down-ERR-sinfo", Unavailable),
        ("221-ctld-down-ERR-scontrol-show-job", Unavailable),
        ("222-ctld-down-ERR-scancel", Unavailable),
        ("226-dbd-down-ERR-sacct", Unavailable),
        ("227-dbd-down-ERR-sacctmgr", Unavailable),
        ("231-munge-down-ERR-squeue", Unavailable),
        ("ctld-hangs-live", Unavailable),
        ("ctld-hangs-nodes", Unavailable),
        ("153-scancel-ERR-other-users-job", Denied),
        ("151-scancel-ERR-not-a-number", Upstream),
        ("134-scontrol-show-partition-ERR-unknown", Upstream),
        ("nodes-ERR-no-sinfo", Upstream),
    ],
)
def test_kinds(name, kind):
    error = errors.command_error("x", output(name))
    assert type(error) is kind
    assert error.public


def test_words_are_one_clean_line():
    assert errors.error_text(output("153-scancel-ERR-other-users-job")) == (
        "Kill job error on job id 41: Access/permission denied"
    )
    assert errors.error_text(output("154-scancel-ERR-other-users-job-verbose")) == (
        "Kill job error on job id 41: Access/permission denied"
    )
    assert errors.error_text(Output(1, b"on stdout\n")) == "on stdout"
    assert errors.error_text(output("110-sbatch-ERR-bad-partition")) == (
        "invalid partition specified: nosuch; Batch job submission failed: Invalid partition name specified"
    )
    warning = b"bash: warning: setlocale: LC_ALL: cannot change locale (xx_YY.UTF-8): No such file or directory\n"
    assert errors.error_text(Output(0, b"97\n", warning)) == "97"
    assert errors.error_text(Output(1, b"", b"sbatch: error: \x1b[31mred\x00\xff\nsbatch: two")) == "[31mred� two"
    assert len(errors.error_text(Output(1, b"", b"x" * 100_000))) == 1000


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("unknown-attach", NotFound),
        ("held-attach", Conflict),
        ("done-attach", Conflict),
        ("161-srun-ERR-other-users-job", Denied),
        ("ctld-down-attach", Unavailable),
        ("ctld-hangs-attach", Unavailable),
        ("attach-fails", Invalid),
    ],
)
def test_attaching(name, kind):
    assert type(errors.attach_error(output(name))) is kind


def test_what_the_command_itself_says_is_not_taken_for_sruns_words():
    said = b"Invalid job id specified\nConnection refused\nsrun: error: nid004: task 0: Exited with exit code 127\n"
    error = errors.attach_error(Output(127, b"", said))
    assert type(error) is Invalid
    assert "exit status 127" in error.public
    for program in (b"Job is pending execution\n", b"Unable to contact slurm controller\n"):
        assert type(errors.attach_error(Output(1, b"", program + b"srun: error: odd\n"))) is Upstream


@given(st.integers(0, 255), st.binary(max_size=80), st.binary(max_size=80))
def test_any_failure_is_an_error_of_the_tree(status, stdout, stderr):
    for read in (errors.submit_error, errors.attach_error, lambda said: errors.command_error("x", said)):
        error = read(Output(status, stdout, stderr))
        assert isinstance(error, GatewayError)
        assert error.public.isprintable()


def test_a_script_that_is_too_large_is_no_long_path_name() -> None:
    error = errors.submit_error(output("submit-ERR-name-too-long"))
    assert errors.of_script(error, "#!/bin/sh\n") is error
    found = errors.of_script(error, "#!/bin/sh\n" + "x" * errors.MAX_SCRIPT)
    assert isinstance(found, TooLarge)
    assert [field.name for field in found.fields] == ["script"]
    assert "has 4194314 bytes; Slurm takes 4194304" in found.public
