"""The lines that scontrol show prints for jobs, nodes, partitions and the reservation."""

from __future__ import annotations

import time

from flamecrest.sandbox.slurm import cluster, paths
from flamecrest.sandbox.slurm.formats import (
    elapsed,
    format_array,
    format_duration,
    format_exit_code,
    format_node_list,
    format_time,
)

from .sinfo import free_memory, host, reserved_from
from .squeue import dependency, end_of, nodes_of, start_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flamecrest.sandbox.slurm.store import Store, StoredJob


def job_lines(job: StoredJob, *, details: bool) -> list[str]:
    nodes = nodes_of(job)
    tres = f"cpu={job.cpus},mem={job.memory}M,node={job.nodes},billing={job.cpus}"
    command = " ".join([job.command, *job.arguments.decode("utf-8", "replace").split("\0")[:-1]])
    per_task = f"NumTasks={job.tasks} CPUs/Task={job.cpus_per_task}"
    name = job.user
    stdout, stderr, stdin = paths.shown(job)
    return [
        f"JobId={job.id} {_array(job)}JobName={job.name}",
        f"UserId={name}({job.uid}) GroupId={name}({job.uid}) MCS_label=N/A",
        f"Priority={job.priority} Nice=0 Account={job.account} QOS={job.qos}",
        f"JobState={job.state} Reason={job.reason} Dependency={dependency(job)}",
        f"Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode={format_exit_code(job.status)}",
        *(["DerivedExitCode=0:0"] if details else []),
        f"RunTime={format_duration(elapsed(job, int(time.time())))} TimeLimit={_limit(job)} TimeMin=N/A",
        f"SubmitTime={format_time(job.submit)} EligibleTime={format_time(job.start or job.submit)}",
        f"AccrueTime={format_time(job.submit)}",
        f"StartTime={format_time(start_of(job))} EndTime={format_time(end_of(job))} Deadline=N/A",
        f"SuspendTime=None SecsPreSuspend=0 LastSchedEval={format_time(job.start or job.submit)} Scheduler=Main",
        f"Partition={job.partition} AllocNode:Sid=localhost:1",
        "ReqNodeList=(null) ExcNodeList=(null)",
        f"NodeList={nodes}",
        *([f"BatchHost={job.nodelist.partition(',')[0]}"] if nodes else []),
        f"NumNodes={job.nodes} NumCPUs={job.cpus} {per_task} ReqB:S:C:T=0:0:*:*",
        f"TRES={tres}",
        "Socks/Node=* NtasksPerN:B:S:C=0:0:*:* CoreSpec=*",
        *(["JOB_GRES=(null)", f"  Nodes={nodes} CPU_IDs=0 Mem={job.memory} GRES="] if details and nodes else []),
        f"MinCPUsNode={job.cpus_per_task} MinMemoryCPU=100M MinTmpDiskNode=0",
        f"Features={job.features or '(null)'} DelayBoot=00:00:00",
        *([f"Reservation={job.reservation}"] if job.reservation else []),
        "OverSubscribe=OK Contiguous=0 Licenses=(null) Network=(null)",
        f"Command={command if job.command else '(null)'}",
        f"WorkDir={job.workdir}",
        *([f"Comment={job.comment} "] if job.comment else []),
        f"StdErr={stderr}",
        f"StdIn={stdin}",
        f"StdOut={stdout}",
        "Power=",
        "",
    ]


def _array(job: StoredJob) -> str:
    if job.array_job is None:
        return ""
    which = format_array(job.pending_tasks, job.array_limit) if job.array_task is None else str(job.array_task)
    throttle = f"ArrayTaskThrottle={job.array_limit} " if job.array_limit else ""
    return f"ArrayJobId={job.array_job} ArrayTaskId={which} {throttle}"


def _limit(job: StoredJob) -> str:
    return format_duration(job.minutes * 60) if job.minutes else "UNLIMITED"


def node_lines(store: Store, name: str, used: int, state: str) -> list[str]:
    cpus, began = int(store.setting("cpus")), format_time(reserved_from(store))
    tres = f"cpu={cpus},mem={cluster.MEMORY}M,billing={cpus}"
    taken = f"cpu={used},mem={100 * used}M" if used else ""
    partitions = ",".join(one.name for one in cluster.PARTITIONS if name in one.nodes)
    return [
        f"NodeName={name} Arch=x86_64 CoresPerSocket=1 ",
        f"CPUAlloc={used} CPUEfctv={cpus} CPUTot={cpus} CPULoad=0.00",
        f"AvailableFeatures={cluster.FEATURE}",
        f"ActiveFeatures={cluster.FEATURE}",
        "Gres=(null)",
        f"NodeAddr=127.0.0.1 NodeHostName={host()} Port={17000 + int(name[-3:])} Version={cluster.VERSION}",
        "OS=Linux ",
        f"RealMemory={cluster.MEMORY} AllocMem={100 * used} FreeMem={free_memory()} Sockets={cpus} Boards=1",
        f"State={state.upper()} ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A",
        f"Partitions={partitions} ",
        f"BootTime={began} SlurmdStartTime={began}",
        f"LastBusyTime={began}",
        f"CfgTRES={tres}",
        f"AllocTRES={taken}",
        "CapWatts=n/a",
        "CurrentWatts=0 AveWatts=0",
        "ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s",
    ]


def partition_lines(store: Store, one: cluster.PartitionConfig) -> list[str]:
    nodes, cpus = len(one.nodes), int(store.setting("cpus")) * len(one.nodes)
    memory = f"{cluster.MEMORY * nodes / 1024:.2f}G"
    usual = format_duration(one.default_time * 60)
    hidden = "YES" if one.hidden else "NO"
    return [
        f"PartitionName={one.name}",
        "AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL",
        f"AllocNodes=ALL Default={'YES' if one.default else 'NO'} QoS=N/A",
        f"DefaultTime={usual} DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden={hidden}",
        f"MaxNodes=UNLIMITED MaxTime={format_duration(one.max_time * 60)} MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED",
        f"Nodes={format_node_list(one.nodes)}",
        f"PriorityJobFactor={one.factor} PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO",
        "OverTimeLimit=NONE PreemptMode=OFF",
        f"State=UP TotalCPUs={cpus} TotalNodes={nodes} SelectTypeParameters=NONE",
        "JobDefaults=(null)",
        "DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED",
        f"TRES=cpu={cpus},mem={memory},node={nodes},billing={cpus}",
    ]


def reservation_lines(store: Store) -> list[str]:
    start = reserved_from(store)
    cpus = int(store.setting("cpus"))
    span = f"StartTime={format_time(start)} EndTime={format_time(start + cluster.RESERVED_SECONDS)}"
    span += f" Duration={format_duration(cluster.RESERVED_SECONDS)}"
    rest = "Groups=(null) Accounts=(null) Licenses=(null) State=ACTIVE BurstBuffer=(null) Watts=n/a"
    return [
        f"ReservationName={cluster.RESERVATION} {span}",
        f"Nodes={cluster.RESERVED} NodeCnt=1 CoreCnt={cpus} Features=(null) PartitionName=debug Flags=SPEC_NODES",
        f"  NodeName={cluster.RESERVED} CoreIDs=0-{cpus - 1}",
        f"TRES=cpu={cpus}",
        f"Users={','.join(cluster.RESERVED_FOR)} {rest}",
        "MaxStartDelay=(null)",
    ]
