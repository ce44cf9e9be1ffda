"""All workloads, in the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence

from bench.capacity.costs import Costs

from .analysis import Calls, Network
from .authorization import Authorization
from .big_file import BigFile
from .bulk import BulkDownload
from .crowds.cold import ColdStart
from .crowds.crowd import Crowd
from .crowds.keep_alive import KeepAlive
from .crowds.login_nodes import LoginNodes
from .crowds.soak import Soak
from .crowds.steering import Steering
from .crowds.workers import Workers
from .downloads import HttpxDownloads
from .fair_use import FairUse
from .jobs import JobThroughput
from .lifecycle import Lifecycle
from .many_jobs import ManyJobs
from .memory import Memory
from .movers import Movers
from .pollers import OnePoller, Pollers
from .scaling import Entries, Sizes
from .submissions import Submissions
from .syncs import UnchangedSync
from .throughput import ListingThroughput, ReadThroughput, UploadThroughput
from .tickets import Tickets
from .workload import Workload

WORKLOADS: Sequence[Workload] = (
    HttpxDownloads(),
    Authorization(),
    ReadThroughput("stat", "Metadata of a file", (64, 1, 16, 256)),
    ReadThroughput("download", "Download of 1 KB", (64, 1, 16, 256)),
    ListingThroughput("ls", "List of a directory of 1,000 entries", (16,), 1),
    ListingThroughput("ls-apart", "Lists of 16 directories of 1,000 entries in rotation", (16,), 16),
    UploadThroughput("upload", "Upload of 1 KB", (32,)),
    BulkDownload(),
    BigFile(),
    Movers(),
    Tickets(),
    UnchangedSync(),
    FairUse(),
    Entries(),
    Sizes(),
    Calls(),
    Network(),
    Memory(),
    JobThroughput("jobs", "List of a user's jobs", "compute", "/jobs"),
    JobThroughput("job", "One job", "compute", "/jobs/{job}"),
    JobThroughput("nodes", "Nodes", "status", "/nodes"),
    JobThroughput("partitions", "Partitions", "status", "/partitions"),
    Pollers(),
    OnePoller(),
    Submissions(),
    ManyJobs(),
    Lifecycle(),
    ColdStart(),
    KeepAlive(),
    Crowd(),
    Workers(),
    LoginNodes(),
    Steering(),
    Soak(),
    Costs(),
)
