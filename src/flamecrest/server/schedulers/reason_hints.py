"""What a user can do about the reason for which a job waits or has failed, in plain words.

Reasons of Slurm: https://slurm.schedmd.com/job_reason_codes.html. Those of OpenPBS are comments of its scheduler.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

_WORDS: Final[Mapping[str, str]] = MappingProxyType({
    "Priority": "Jobs with a higher priority are waiting for the same partition. It starts when its turn comes.",
    "Resources": "It is next, and waits until enough nodes are free. Asking for less may start it earlier.",
    "Dependency": "It waits for the jobs in its dependencies.",
    "DependencyNeverSatisfied": "A job has ended otherwise than its dependencies demand. Cancel it, or change them.",
    "JobHeldUser": "You hold it. Release it.",
    "JobHeldAdmin": "An administrator holds it. Ask your centre.",
    "BeginTime": "Its earliest time of start has not come.",
    "ReqNodeNotAvail": "Nodes are down or reserved, often for a maintenance. A shorter time limit may start it.",
    "PartitionDown": "The partition is down. Choose another, or wait.",
    "PartitionInactive": "The partition is inactive. Choose another, or wait.",
    "PartitionNodeLimit": "The partition does not allow this number of nodes. Change it, or the partition.",
    "PartitionTimeLimit": "Its time limit is longer than the partition's. Shorten it, or choose another partition.",
    "QOSNotAllowed": "The partition does not allow this QOS. Choose another QOS or partition.",
    "AccountNotAllowed": "The partition does not allow this account. Choose another account or partition.",
    "InvalidAccount": "The account is not valid. Choose another.",
    "InvalidQOS": "The QOS is not valid. Choose another.",
    "Licenses": "It waits for a licence that others use.",
    "Reservation": "Its reservation has not begun.",
    "ReservationDeleted": "Its reservation no longer exists. Change or remove it.",
    "BadConstraints": "No node has the features and resources that it asks for. Change them.",
    "NonZeroExitCode": "Its script or a step has ended with an error. Read its output.",
    "TimeLimit": "It has reached its time limit. Ask for more time, or save and continue.",
    "OutOfMemory": "It has used more memory than it had asked for. Ask for more.",
    "NodeDown": "A node has failed. Submit it again.",
    "JobArrayTaskLimit": "As many elements of the array run as its own limit allows.",
    "JobLaunchFailure": "It could not be started. Its working directory or the folder of its output may be missing on "
    "the node: check them. Else a file system or node has failed: submit it again.",
    "Cleaning": "It runs again, and its earlier run is being cleaned up.",
    "MaxJobs": "A limit of the number of running jobs is reached. It starts when some of them have ended.",
    "MaxSubmitJobsPerUser": "You have as many jobs as you may have. Wait until some have ended.",
})  # fmt: skip
# Reasons why a job has ended. A job that was cancelled while it waited keeps the reason why it waited.
_OF_ENDS: Final = frozenset({"NonZeroExitCode", "TimeLimit", "OutOfMemory", "NodeDown", "JobLaunchFailure"})
_MOVER: Final = re.compile(r"Job [^\s:]+: ")  # before the reason of a job that a transfer waits for
# Beginnings of the comments of OpenPBS, and of sentences of Slurm, and the reasons that mean the same.
_COMMENTS: Final = (
    (re.compile(r"Nodes[ _]required[ _]for[ _]job[ _]are[ _]DOWN"), "ReqNodeNotAvail"),
    (re.compile(r"Can Never Run: "), "BadConstraints"),
    (re.compile(r"Not Running: .*(?:Insufficient amount|Not enough)"), "Resources"),
    (re.compile(r"Not Running: .*(?:limit|has reached|would exceed)", re.IGNORECASE), "MaxJobs"),
    (re.compile(r"Not Running: .*(?:[Qq]ueue not started|[Dd]edicated time)"), "PartitionInactive"),
    (re.compile(r"Not Running: .*(?:reservation)", re.IGNORECASE), "Reservation"),
    (re.compile(r"Job held by \S+"), "JobHeldUser"),
    (re.compile(r"Job run at .* and exceeded resource walltime"), "TimeLimit"),
    (re.compile(r"Job run at .* and exceeded resource mem"), "OutOfMemory"),
    (re.compile(r"Job run at .* and failed"), "NonZeroExitCode"),
)
_LIMIT: Final = re.compile(
    r"(QOS|Assoc)(Grp|Max)([A-Za-z]+?)(PerUser|PerAccount|PerJob|PerNode|RunMinutes|Minutes|Limit)*"
)
_OWNERS: Final = {"QOS": "the quality of service", "Assoc": "your account"}


@lru_cache(1024)
def reason_hint(reason: str | None, *, ended: bool = False) -> str | None:
    """The hint for a reason; None for one without, one that is not known, and what an ended job has waited for."""
    if not reason:
        return None
    reason = _MOVER.sub("", reason, count=1) if _MOVER.match(reason) else reason
    word = re.split(r"[\s,(:]", reason, maxsplit=1)[0]
    if word not in _WORDS:
        word = next((same for beginning, same in _COMMENTS if beginning.match(reason)), word)
    if word in _WORDS:
        return _WORDS[word] if word in _OF_ENDS or not ended else None
    if ended or (found := _LIMIT.match(word)) is None:
        return None
    owner, per = _OWNERS[found[1]], word[len(found[1]) :]
    if "Minutes" in per:
        return f"The budget of {owner} is used up, or running jobs may use it up. Ask your centre for more."
    if "PerJob" in per or "PerNode" in per or "WallDuration" in per:
        return f"It asks for more than {owner} allows for one job. Ask for less, or choose another."
    if found[2] == "Grp":
        return f"The jobs of all users together have reached a limit of {owner}. It starts when some have ended."
    return f"Your jobs have reached a limit of {owner}. It starts when some of them have ended."
