"""Accounting records of jobs, as slurmdbd stores them: the job, its batch step, and the steps of srun.

They can be `lag` seconds late: then a new job has only an `allocation` record, and an ended one is still running.
"""

from __future__ import annotations

from flamecrest.sandbox.slurm import cluster
from flamecrest.sandbox.slurm.formats import elapsed, format_duration, format_exit_code, format_time, job_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flamecrest.sandbox.slurm.store import StepRecord, Store, StoredJob

# All columns of sacct. Those without a value here are empty.
_NAMES = """
Account AdminComment AllocCPUS AllocNodes AllocTRES AssocID AveCPU AveCPUFreq AveDiskRead AveDiskWrite AvePages
AveRSS AveVMSize BlockID Cluster Comment Constraints ConsumedEnergy ConsumedEnergyRaw Container CPUTime CPUTimeRAW
DBIndex DerivedExitCode Elapsed ElapsedRaw Eligible End ExitCode Flags GID Group JobID JobIDRaw JobName Layout
MaxDiskRead MaxDiskReadNode MaxDiskReadTask MaxDiskWrite MaxDiskWriteNode MaxDiskWriteTask MaxPages MaxPagesNode
MaxPagesTask MaxRSS MaxRSSNode MaxRSSTask MaxVMSize MaxVMSizeNode MaxVMSizeTask McsLabel MinCPU MinCPUNode
MinCPUTask NCPUS NNodes NodeList NTasks Partition Priority QOS QOSRAW Reason ReqCPUFreq ReqCPUFreqGov ReqCPUFreqMax
ReqCPUFreqMin ReqCPUS ReqMem ReqNodes ReqTRES Reservation ReservationId Reserved ResvCPU ResvCPURAW Start State
Submit SubmitLine Suspended SystemComment SystemCPU Timelimit TimelimitRaw TotalCPU TRESUsageInAve TRESUsageInMax
TRESUsageInMaxNode TRESUsageInMaxTask TRESUsageInMin TRESUsageInMinNode TRESUsageInMinTask TRESUsageInTot
TRESUsageOutAve TRESUsageOutMax TRESUsageOutMaxNode TRESUsageOutMaxTask TRESUsageOutMin TRESUsageOutMinNode
TRESUsageOutMinTask TRESUsageOutTot UID User UserCPU WCKey WCKeyID WorkDir
"""
FIELDS = _NAMES.split()
FieldValues = dict[str, str]


class AccountingRecord:
    """The values of a job and of its steps. `fresh`: there is only an `allocation` record."""

    def __init__(self, job: StoredJob, line: FieldValues, steps: list[FieldValues], *, fresh: bool) -> None:
        self.job = job
        self.line = line
        self.steps = steps
        self.fresh = fresh


def accounting_record(store: Store, job: StoredJob, now: float, lag: float) -> AccountingRecord | None:
    """The accounting record of a job at a time; None if there is none yet."""
    seen = job.copy()
    if seen.finished and now - seen.ended < lag:
        seen.state, seen.end, seen.ended, seen.status = ("RUNNING" if seen.start else "PENDING"), 0, 0.0, 0
        seen.reason = "None"
    if seen.state == "COMPLETING":
        seen.state = "RUNNING"
    fresh = now - job.submit < lag
    if fresh and not seen.start:
        return None
    return AccountingRecord(
        job, _allocation(seen, now) if fresh else _whole(seen, now), _steps(store, seen, now), fresh=fresh
    )


def _whole(job: StoredJob, now: float) -> FieldValues:
    placed = bool(job.start)
    run = elapsed(job, int(now))
    started = format_time(job.start, "None" if job.finished else "Unknown")
    tres = f"billing={job.cpus},cpu={job.cpus},mem={job.memory}M,node={job.nodes}"
    return {
        **_common(job, job.start, job.end, run),
        "AllocCPUS": str(job.cpus),
        "AllocNodes": str(job.nodes if placed else 0),
        "AllocTRES": tres if placed else "",
        "Comment": job.comment,
        "Constraints": job.features,
        "DerivedExitCode": "0:0",
        "Eligible": format_time(job.submit),
        "ExitCode": "0:0" if job.state in {"CANCELLED", "TIMEOUT"} else format_exit_code(job.status),
        "GID": str(job.uid),
        "Group": job.user,
        "JobID": job_id(job),
        "JobIDRaw": str(job.id),
        "JobName": _stored(job.name),
        "NCPUS": str(job.cpus if placed else 0),
        "NNodes": str(job.nodes),
        "NodeList": cluster.node_expression(job) if placed else "None assigned",
        "Partition": job.partition,
        "Priority": str(job.priority),
        "QOS": job.qos,
        "Reason": _reason(job),
        "ReqMem": f"{job.memory}M",
        "ReqTRES": tres,
        "Reservation": job.reservation,
        "Start": started,
        "State": state(job),
        "Submit": format_time(job.submit),
        "SubmitLine": job.submit_line,
        "Timelimit": format_duration(job.minutes * 60) if job.minutes else "UNLIMITED",
        "TimelimitRaw": str(job.minutes) if job.minutes else "UNLIMITED",
        "UID": str(job.uid),
        "User": job.user,
        "WorkDir": job.workdir,
    }


def state(job: StoredJob) -> str:
    return (
        f"CANCELLED by {job.cancelled_by}" if job.state == "CANCELLED" and job.cancelled_by is not None else job.state
    )


def _reason(job: StoredJob) -> str:
    """The reason why the job was pending before its start, or why it is pending, as far as it is recorded."""
    if job.start:
        return job.reason_before_start
    return "None" if job.reason in {"JobArrayTaskLimit", "Priority", "Resources"} and not job.finished else job.reason


def _stored(name: str) -> str:
    """A name as the database stores it: without quotation marks, and with invalid UTF-8 replaced."""
    text = "".join("?" if "\udc80" <= letter <= "\udcff" else letter for letter in name)
    return text.replace('"', "`").replace("'", "`")


def _allocation(job: StoredJob, now: float) -> FieldValues:
    """The record that slurmdbd writes when it receives a step before its job."""
    return {
        **_common(job, job.start, 0, elapsed(job, int(now))),
        "AllocCPUS": "0",
        "AllocNodes": "0",
        "Eligible": "Unknown",
        "ExitCode": "0:0",
        "DerivedExitCode": "0:0",
        "GID": "0",
        "Group": "root",
        "JobID": job_id(job),
        "JobIDRaw": str(job.id),
        "JobName": "allocation",
        "NCPUS": "0",
        "NNodes": "0",
        "NodeList": cluster.node_expression(job),
        "Priority": "0",
        "Reason": "None",
        "ReqMem": "0",
        "State": "PENDING",
        "UID": "0",
        "User": job.user,
    }


def _common(job: StoredJob, start: int, end: int, run: int) -> FieldValues:
    return {
        "Account": job.account,
        "AssocID": "5",
        "Cluster": cluster.CLUSTER,
        "CPUTime": format_duration(run * job.cpus),
        "CPUTimeRAW": str(run * job.cpus),
        "DBIndex": str(job.id + 1),
        "Elapsed": format_duration(run),
        "ElapsedRaw": str(run),
        "End": format_time(end),
        "ReqCPUS": str(job.cpus),
        "ReqNodes": str(job.nodes),
        "Start": format_time(start),
        "Submit": format_time(job.submit),
        "Suspended": "00:00:00",
    }


def _steps(store: Store, job: StoredJob, now: float) -> list[FieldValues]:
    if not job.start:
        return []
    batch = job.state
    if job.finished:
        batch = "CANCELLED" if job.status & 0x7F else "FAILED" if job.status else "COMPLETED"
    lines = [_step(job, "batch", "batch", batch, job.status, job.start, job.end, now)]
    return lines + [_srun(job, step, now) for step in store.steps(job.id)]


def _srun(job: StoredJob, step: StepRecord, now: float) -> FieldValues:
    return _step(job, str(step.number), step.name, step.state, step.status, step.start, step.end, now)


def _step(
    job: StoredJob, key: str, name: str, state: str, status: int, start: int, end: int, now: float
) -> FieldValues:
    run = max(0, (end or int(now)) - start)
    return {
        **_common(job, start, end, run),
        "AllocCPUS": str(job.cpus),
        "AllocNodes": "1",
        "AllocTRES": f"cpu={job.cpus},mem={job.memory}M,node={job.nodes}",
        "Eligible": format_time(start),
        "ExitCode": format_exit_code(status),
        "JobID": f"{job_id(job)}.{key}",
        "JobIDRaw": f"{job.id}.{key}",
        "JobName": name,
        "NCPUS": str(job.cpus),
        "NNodes": "1",
        "NodeList": job.nodelist.partition(",")[0],
        "NTasks": "1",
        "State": state,
        "Submit": format_time(start),
    }
