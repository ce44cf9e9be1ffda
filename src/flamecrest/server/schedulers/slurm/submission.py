"""Submission by sbatch: options from a JobSpec, and the id in its output. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from flamecrest.server.errors import Field, GatewayError, Invalid
from flamecrest.server.schedulers.capabilities import (
    CHANGES,
    JOB_FIELDS,
    Capabilities,
    Operation,
    given_fields,
    sent_fields,
)
from flamecrest.server.schedulers.job_environment import (
    check_absolute_path,
    check_line,
    dependency_id,
    invalid_field,
    submit_command,
)
from flamecrest.server.schedulers.job_errors import DoubtfulAnswer
from flamecrest.server.schedulers.once.marked_paths import marked_folder, null_path, tagged_folder
from flamecrest.server.schedulers.script_files import with_regular_script
from flamecrest.server.schedulers.values import Dependency, JobSpec, Resources, SubmissionCheck
from flamecrest.server.ssh.command import RUNNING, Command, Output

from . import errors
from .directives import check_switches
from .ids import MAX_JOB_NUMBER, SlurmJobId
from .native import check_native

CAPABILITIES: Final = Capabilities(fields=JOB_FIELDS, changes=CHANGES, operations=frozenset(Operation))

_ONE_PACKET: Final = 24 * 1024  # bytes of a script that arrive together, or not at all
# If the connection breaks, the input ends, and sbatch would submit the part of the script that has arrived.
_WHOLE: Final = (
    'size=$1; shift; file=$(mktemp "${TMPDIR:-/tmp}/flamecrest-XXXXXXXX") || exec "$@"; '
    'cat >"$file"; arrived=$(wc -c <"$file"); exec <"$file"; rm -f "$file"; '
    'test "$arrived" -eq "$size" || { echo "sbatch: error: the script has not arrived whole" >&2; exit 1; }; '
    'exec "$@"'
)
# Variables with which sbatch asks another Slurm, or asks as somebody else: its messages would be about that.
_ASKS_ANOTHER: Final = frozenset({
    "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_DEBUG_FLAGS", "SLURM_JWT", "SLURM_SACK_JWKS", "SLURM_SACK_KEY",
    "SLURM_WORKING_CLUSTER",
})  # fmt: skip
_STYLE: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # colours of a terminal
# Lines with an id in the output of sbatch, the most certain first. The sentence comes if a wrapper drops --parsable.
# Of several lines of one kind the last counts: wrappers and plug-ins print lines of their own.
_WITH_CLUSTER: Final = re.compile(r"\s*([0-9]{1,10});([^\s;]+)\s*", re.ASCII)
_ID_LINES: Final = (
    _WITH_CLUSTER,
    re.compile(r".*\bSubmitted batch job ([0-9]{1,10})\b(?: on cluster ([\w.-]*\w))?.*", re.ASCII),
    re.compile(r"\s*([0-9]{1,10})\s*()", re.ASCII),
)
_COMMENT_DIRECTIVE: Final = re.compile(r"^#SBATCH\b.*\s--com", re.MULTILINE)
_INPUT_DIRECTIVE: Final = re.compile(r"^#SBATCH\b.*\s(?:--in|-[A-Za-z]*i)", re.MULTILINE)
_INPUT: Final = re.compile(r"--in|-[A-Za-z]*i")
_CLUSTERS_DIRECTIVE: Final = re.compile(r"^#SBATCH\b.*\s(?:--clus|-[A-Za-z]*M)", re.MULTILINE)
_MAX_COUNT: Final = 65533  # of 16 bits; the numbers above have meanings of their own
_MIN_TIME: Final = 1_000_000  # Slurm reads smaller numbers as no time
_MAX_END: Final = 32 * 1024  # bytes of the beginning, and of the end, of sbatch's output that are read
_TESTED: Final = re.compile(
    r"Job [0-9]+ to start at (?P<start>\S+)(?: using (?P<cpus>[0-9]+) processors)?(?: on nodes (?P<nodes>\S+))?"
    r"(?: in partition (?P<partition>\S+))?"
)

# The one-line fields of a JobSpec: sbatch's option and the field's name on the wire.
_OPTIONS: Final = (
    ("working_directory", "--chdir", "workingDirectory"),
    ("name", "--job-name", "name"),
    ("account", "--account", "account"),
    ("partition", "--partition", "partition"),
    ("reservation", "--reservation", "reservation"),
    ("constraints", "--constraint", "constraints"),
    ("standard_input", "--input", "standardInput"),
    ("standard_output", "--output", "standardOutput"),
    ("standard_error", "--error", "standardError"),
    ("qos", "--qos", "qos"),
    ("comment", "--comment", "comment"),
    ("licenses", "--licenses", "licenses"),
    ("container", "--container", "container"),
)


def submit(sbatch: str, spec: JobSpec) -> Command[str]:
    """The command that submits the job. Raises Invalid."""
    command = _command([sbatch, "--parsable"], spec)
    parsed = submit_command(command, spec, partial(_parse_job_id, spec))
    if len(parsed.stdin or b"") > _ONE_PACKET and "PATH" not in spec.env:  # the shell would look for programs there
        parsed = replace(parsed, argv=("sh", "-c", _WHOLE, "sh", str(len(parsed.stdin or b"")), *command))
    if spec.script_path is not None:
        parsed = with_regular_script(parsed, spec.script_path)
    return replace(parsed, is_enough=partial(_has_job_id, spec))  # --wait: sbatch stays until the job has ended


def check(sbatch: str, spec: JobSpec) -> Command[SubmissionCheck]:
    """The command that asks whether the job would be accepted."""

    def parse(output: Output) -> SubmissionCheck:
        found = _TESTED.search(output.errors())
        if output.status == 0 and not output.errors().strip():
            raise Invalid("sbatch accepts the job and tells nothing of it: check it without --quiet (-Q)")
        if output.status != 0 or found is None:
            raise errors.check_error(output, sent_fields(spec))
        cpus = found["cpus"]
        # sbatch prints the time in the zone of the cluster, or as SLURM_TIME_FORMAT has it: as seconds
        start = int(found["start"]) if found["start"].isdigit() else None
        return SubmissionCheck(start, found["partition"], found["nodes"], None if cpus is None else int(cpus))

    command = submit_command(_command([sbatch, "--test-only"], spec), spec, parse)
    if spec.script_path is not None:
        command = with_regular_script(command, spec.script_path)
    return replace(command, env={**command.env, "SLURM_TIME_FORMAT": "%s"}, repeatable=True)


def dependency_text(dependencies: tuple[Dependency, ...] | list[Dependency]) -> str:
    """The value of sbatch's --dependency. Raises Invalid for ids that are no ids."""
    return ",".join(":".join((one.kind.value, *map(_dependency_id, one.job_ids))) for one in dependencies)


def _dependency_id(text: str) -> str:
    job = dependency_id(text, SlurmJobId.parse)
    if job.clusters:
        raise invalid_field("dependencies", f"{text[:80]}: a job cannot wait for a job of another cluster")
    return str(job)


def check_counts(resources: Resources) -> None:
    """Raise Invalid for numbers that Slurm cuts to 16 bits without a word."""
    for field, wire in (("cpus_per_task", "resources.cpusPerTask"), ("tasks_per_node", "resources.tasksPerNode")):
        if (getattr(resources, field) or 0) > _MAX_COUNT:
            raise invalid_field(wire, f"Slurm takes at most {_MAX_COUNT}")


def check_time(wire: str, time: int) -> int:
    """A time in seconds since the epoch that Slurm takes. Raises Invalid."""
    if time < _MIN_TIME:
        raise invalid_field(wire, f"Slurm takes no time before {_MIN_TIME} seconds since the epoch (12 January 1970)")
    return time


def duration_text(seconds: int) -> str:
    """A time limit as minutes and seconds; Slurm rounds it up to minutes."""
    return f"{seconds // 60}:{seconds % 60:02}"


def _command(start: list[str], spec: JobSpec) -> list[str]:
    if (spec.script is None) == (spec.script_path is None):
        raise invalid_field("script", "give exactly one of script and scriptPath")
    if spec.idempotency_key is not None and spec.script is not None and _may_choose_cluster(spec):
        message = "cannot be used with a job that may choose another cluster of the same Slurm"
        raise Invalid(f"`Idempotency-Key` {message}", fields=(Field("header", "idempotency-key", message),))
    for name in _ASKS_ANOTHER.intersection(spec.env):
        raise invalid_field("env", f"{name} is for sbatch, not for the job: leave it out")
    if spec.hold is False or spec.resources.exclusive is False:
        check_switches(spec)
    marked, folder = ([], spec.working_directory) if spec.marker is None else _marked(spec, spec.marker)
    options = [*start, *marked, *_options(replace(spec, working_directory=folder))]
    if spec.script_path is not None:
        options += ["--", check_absolute_path("scriptPath", check_line("scriptPath", spec.script_path))]
    check_absolute_path("workingDirectory", spec.working_directory)
    return options


def _marked(spec: JobSpec, marker: str) -> tuple[list[str], str]:
    """The options that carry the marker, and the path of the working directory.

    The marker is the comment, if the job has no other one. Else it is a directory that the option behind it replaces,
    because the accounting records the arguments of sbatch as they were; and the path of the standard input, if the job
    has none, because the accounting has no job that cannot start yet. Else the path of the working directory has the
    marker of a job with a key, and of others its beginning, so that searches for others need not wait.
    """
    script = spec.script if spec.script is not None and "#SBATCH" in spec.script else ""
    own_comment = (
        spec.comment
        or spec.script is None
        or _COMMENT_DIRECTIVE.search(script)
        or any(option.startswith("--com") for option in spec.native)
    )
    if not own_comment:
        return [f"--comment={marker}"], spec.working_directory
    options = [f"--chdir=/{marker}"]
    own_input = (
        spec.standard_input
        or spec.script is None
        or _INPUT_DIRECTIVE.search(script)
        or any(_INPUT.match(option) for option in spec.native)
    )
    path = None if own_input else null_path(marker)
    if path is None:
        folder = None if spec.idempotency_key is None else marked_folder(spec.working_directory, marker)
        return options, folder or tagged_folder(spec.working_directory, marker)
    return [*options, f"--input={path}"], spec.working_directory


def _options(spec: JobSpec) -> Iterator[str]:
    for field, option, wire in _OPTIONS:
        if value := getattr(spec, field):
            yield f"{option}={check_line(wire, value)}"
    yield from _resources(spec.resources)
    yield from _course(spec)
    if spec.mail is not None:
        yield f"--mail-type={','.join(event.value.upper() for event in spec.mail.events)}"
        if spec.mail.address is not None:
            yield f"--mail-user={check_line('mail.address', spec.mail.address)}"
    if spec.env:
        yield "--export=ALL"  # otherwise a site's SBATCH_EXPORT may withhold the variables
    given = frozenset(given_fields(spec)) if spec.native else frozenset()
    yield from (check_native(option, given) for option in spec.native)


def _resources(resources: Resources) -> Iterator[str]:
    if (resources.cpus_per_task or resources.tasks_per_node) is not None:
        check_counts(resources)
    numbers = (
        ("--nodes", resources.nodes),
        ("--ntasks", resources.tasks),
        ("--ntasks-per-node", resources.tasks_per_node),
        ("--cpus-per-task", resources.cpus_per_task),
    )
    for option, number in numbers:
        if number is not None:
            yield f"{option}={number}"
    for option, size in (("--mem", resources.memory), ("--mem-per-cpu", resources.memory_per_cpu)):
        if size is not None:
            yield f"{option}={size}M"
    kind = "" if resources.gpu_type is None else f"{check_line('resources.gpuType', resources.gpu_type)}:"
    for option, gpus in (("--gpus", resources.gpus), ("--gpus-per-node", resources.gpus_per_node)):
        if gpus is not None:
            yield f"{option}={kind}{gpus}"
    if resources.exclusive:
        yield "--exclusive"
    if resources.features is not None:
        yield f"--constraint={check_line('resources.features', resources.features)}"


def _course(spec: JobSpec) -> Iterator[str]:
    """The options about when and how often the job runs."""
    if spec.time_limit is not None:
        yield f"--time={duration_text(spec.time_limit)}"
    if spec.priority is not None:
        yield f"--priority={spec.priority}"
    if spec.array is not None:
        most = "" if spec.array.max_running is None else f"%{spec.array.max_running}"
        yield f"--array={check_line('array', spec.array.elements)}{most}"
    if spec.dependencies:
        yield f"--dependency={dependency_text(list(spec.dependencies))}"
    if spec.hold:
        yield "--hold"
    for option, time in (("--begin", spec.begin), ("--deadline", spec.deadline)):
        if time is not None:
            # seconds since the epoch, in every time zone
            yield f"{option}=uts{check_time(option.removeprefix('--'), time)}"
    if spec.requeue is not None:
        yield "--requeue" if spec.requeue else "--no-requeue"
    if spec.signal is not None:
        yield f"--signal={check_line('signal', spec.signal.name)}@{spec.signal.before_end}"


def _parse_job_id(spec: JobSpec, output: Output) -> str:
    """The id of the job in the output of sbatch, with the cluster if sbatch names one.

    An id is proof of a job, whatever the exit status: with --wait that is the job's own. Raises DoubtfulAnswer for an
    id beside the words that nothing was submitted, and for several numbers: wrappers and plug-ins print some, too.
    """
    complete = output.stdout.rfind(b"\n") + 1 if output.status == RUNNING else len(output.stdout)
    printed = output.stdout[:complete]
    if len(printed) > 2 * _MAX_END:
        printed = _both_ends(printed)
    ids = _printed_ids(spec, _STYLE.sub("", printed.decode("utf-8-sig", "replace")).splitlines())
    if not ids:
        raise errors.of_script(errors.submit_error(output, sent_fields(spec)), spec.script)
    if output.stderr and errors.is_not_submitted(output):
        error = errors.submit_error(output, sent_fields(spec))
        raise DoubtfulAnswer(error) if spec.marker is not None and output.status else error
    if len(ids) > 1 and spec.marker is not None:
        raise DoubtfulAnswer(ids[-1])
    return ids[-1]


def _printed_ids(spec: JobSpec, lines: list[str]) -> list[str]:
    """The ids in the most certain kind of lines, each once, the most likely last."""
    for pattern in _ID_LINES:
        found: dict[str, None] = {}
        for line in lines:
            if (match := pattern.fullmatch(line)) is None:
                continue
            number, chosen = int(match[1]), match[2]
            if chosen and (pattern is _WITH_CLUSTER or _may_choose_cluster(spec)):
                job = SlurmJobId.printed(match[1], chosen)
                shown = None if job is None else job.shown
            else:
                shown = str(number) if 0 < number < MAX_JOB_NUMBER else None
            if shown is not None:
                found.pop(shown, None)
                found[shown] = None
        if found:
            return list(found)
    return []


def _both_ends(printed: bytes) -> bytes:
    """The beginning and the end of a long output, without the lines between: an id is looked for in it again and again.

    A plug-in or a wrapper may print without end.
    """
    return printed[:_MAX_END].rpartition(b"\n")[0] + b"\n" + printed[-_MAX_END:].partition(b"\n")[2]


def _may_choose_cluster(spec: JobSpec) -> bool:
    """Whether the submission names a cluster, or has a script that only the cluster can read."""
    if spec.script is None or not spec.env.keys().isdisjoint(("SBATCH_CLUSTERS", "SLURM_CLUSTERS")):
        return True
    if any(re.match(r"--clus|-[A-Za-z]*M", option) for option in spec.native):
        return True
    return _CLUSTERS_DIRECTIVE.search(spec.script) is not None


def _has_job_id(spec: JobSpec, output: Output) -> bool:
    try:
        return bool(_parse_job_id(spec, output))
    except DoubtfulAnswer as doubt:
        return isinstance(doubt.likely, str)
    except GatewayError:
        return False
