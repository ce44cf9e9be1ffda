"""All workloads, in the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence

from .analysis import Calls, Network
from .big_file import BigFile
from .bulk import BulkDownload
from .downloads import HttpxDownloads
from .memory import Memory
from .scaling import Entries, Sizes
from .throughput import ListingThroughput, ReadThroughput, UploadThroughput
from .workload import Workload

WORKLOADS: Sequence[Workload] = (
    HttpxDownloads(),
    ReadThroughput("stat", "Metadata of a file", (64, 1, 16, 256)),
    ReadThroughput("download", "Download of 1 KB", (64, 1, 16, 256)),
    ListingThroughput("ls", "List of a directory of 1,000 entries", (16,), 1),
    ListingThroughput("ls-apart", "Lists of 16 directories of 1,000 entries in rotation", (16,), 16),
    UploadThroughput("upload", "Upload of 1 KB", (32,)),
    BulkDownload(),
    BigFile(),
    Entries(),
    Sizes(),
    Calls(),
    Network(),
    Memory(),
)
