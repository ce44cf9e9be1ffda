"""The plugin's scheduler, and a calculation that AiiDA's engine runs through both plugins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiida import engine, orm
from aiida.common.datastructures import CodeRunMode
from aiida.schedulers import SchedulerError
from aiida.schedulers.datastructures import JobState, JobTemplate, JobTemplateCodeInfo

from .files import Desk
from .steps import Step, expect, refused, until


@dataclass(frozen=True)
class Office:
    """The environment of job steps: AiiDA's computer, its scheduler with an open transport, and a Desk."""

    computer: Any
    scheduler: Any
    desk: Desk
    account: str

    def submit(self, folder: str, name: str, command: str, account: str = "") -> str:
        """Submit a shell command by a script that the plugin writes; returns the job's id."""
        path = f"{self.desk.remote}/{folder}"
        self.desk.transport.mkdir(path)
        script = self.scheduler.get_submit_script(self._template(name, command, account))
        self.desk.put(f"{path}/_submit.sh", script.encode())
        return str(self.scheduler.submit_job(path, "_submit.sh"))

    def _template(self, name: str, command: str, account: str) -> Any:
        code = JobTemplateCodeInfo(cmdline_params=["bash", "-c", command], stdout_name="out.txt")
        template = JobTemplate()
        template.codes_info = [code]
        template.codes_run_mode = CodeRunMode.SERIAL
        template.shebang = "#!/bin/bash"
        template.job_name = name
        template.account = account or self.account
        template.max_wallclock_seconds = 300
        template.job_resource = self.scheduler.create_job_resource(num_machines=1, num_mpiprocs_per_machine=1)
        template.sched_output_path = "_out"
        template.sched_error_path = "_err"
        template.import_sys_environment = False
        template.job_environment = {"GREETING": "it's 5 o'clock"}
        return template

    def gone(self, job: str) -> bool:
        """Whether the plugin no longer lists the job: it omits finished jobs."""
        return job not in self.scheduler.get_jobs(jobs=[job], as_dict=True)

    def state(self, job: str) -> str:
        """The job's state in Slurm's terms."""
        transport = self.desk.transport
        (found,) = transport.blocking_client.job_info(transport._machine, job)
        return str(found["status"]["state"])


def job_runs_to_its_end(office: Office) -> str:
    job = office.submit("a job", "run & run", 'echo "$GREETING"; echo oops >&2; sleep 2')
    (seen,) = office.scheduler.get_jobs(jobs=[job])  # immediately: AiiDA treats an unlisted job as finished
    expect((seen.job_id, seen.title, seen.requested_wallclock_time_seconds), (job, "runrun", 300))
    expect(seen.job_owner, office.desk.transport.whoami())
    expect(seen.job_state in {JobState.QUEUED, JobState.RUNNING}, True)
    until(lambda: office.gone(job))
    expect(office.state(job), "COMPLETED")
    folder = f"{office.desk.remote}/a job"
    expect(office.desk.read(f"{folder}/out.txt"), b"it's 5 o'clock\n")
    expect(office.desk.read(f"{folder}/_err"), b"oops\n")
    return f"job {job}"


def job_is_killed(office: Office) -> str:
    job = office.submit("killed", "long", "sleep 300")

    def running() -> Any:
        found = office.scheduler.get_jobs(as_dict=True).get(job)  # among all jobs of the user
        return found if found is not None and found.job_state == JobState.RUNNING else None

    seen = until(running)
    expect((seen.num_machines, seen.wallclock_time_seconds >= 0), (1, True))
    expect(office.scheduler.kill_job(job), True)
    until(lambda: office.gone(job))
    expect(office.state(job), "CANCELLED")
    expect(office.scheduler.kill_job(job), True)  # once more, when it is finished
    return f"job {job}"


def unknown_job_is_no_error(office: Office) -> None:
    expect(office.scheduler.get_jobs(jobs=["99999999"]), [])


def job_that_fails(office: Office) -> str:
    job = office.submit("fails", "fails", "exit 3")
    until(lambda: office.gone(job))
    expect(office.state(job), "FAILED")
    return f"job {job}"


def job_that_slurm_refuses(office: Office) -> None:
    with refused(SchedulerError, "account"):
        office.submit("refused", "refused", "true", account="no-such-account")
    path = f"{office.desk.remote}/refused"
    with refused(SchedulerError, "Unable to open file"):
        office.scheduler.submit_job(path, "none.sh")
    expect(office.desk.transport.listdir(path), ["_submit.sh"])


def calculation_by_the_engine(office: Office) -> str:
    node = _add(office, 17, 25, f"{office.desk.remote}/stash")
    expect((node.process_state.value, node.exit_status), ("finished", 0))
    expect(node.outputs.retrieved.base.repository.get_object_content("aiida.out"), "42\n")
    expect(office.desk.read(f"{node.outputs.remote_stash.target_basepath}/aiida.out"), b"42\n")
    folder = node.outputs.remote_folder
    expect({"aiida.in", "aiida.out", "_aiidasubmit.sh"} <= set(folder.listdir()), True)
    target = office.desk.local / "from the remote folder"
    folder.getfile("aiida.out", str(target))
    expect(target.read_text("utf-8"), "42\n")
    folder._clean()
    expect(office.desk.transport.path_exists(folder.get_remote_path()), False)
    return f"17 + 25 = {node.outputs.sum.value}, job {node.get_job_id()}"


def _add(office: Office, x: int, y: int, stash: str) -> Any:
    """Add two numbers in a job and copy its output to a folder on the cluster; return AiiDA's node."""
    code = orm.InstalledCode(
        label="bash",
        computer=office.computer,
        filepath_executable="/bin/bash",
        default_calc_job_plugin="core.arithmetic.add",
    )
    builder = code.store().get_builder()
    builder.x, builder.y = orm.Int(x), orm.Int(y)
    options = builder.metadata.options
    options.resources = {"num_machines": 1}
    options.account = office.account
    options.max_wallclock_seconds = 300
    options.stash = {"stash_mode": "copy", "target_base": stash, "source_list": ["aiida.out"]}
    return engine.run_get_node(builder)[1]


STEPS: list[Step] = [
    job_runs_to_its_end,
    job_is_killed,
    unknown_job_is_no_error,
    job_that_fails,
    job_that_slurm_refuses,
    calculation_by_the_engine,
]
