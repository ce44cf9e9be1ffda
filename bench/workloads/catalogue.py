"""All workloads, in the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence

from .analysis import Calls, Network
from .big_file import BigFile
from .bulk import Bulk
from .downloads import Downloads
from .memory import Memory
from .scaling import Entries, Sizes
from .throughput import Listings, Reads, Uploads
from .workload import Workload

WORKLOADS: Sequence[Workload] = (
    Downloads(),
    Reads("stat", "Metadata of a file", (64, 1, 16, 256)),
    Reads("download", "Download of 1 KB", (64, 1, 16, 256)),
    Listings("ls", "List of a directory of 1,000 entries", (16,), 1),
    Listings("ls-apart", "Lists of 16 directories of 1,000 entries in rotation", (16,), 16),
    Uploads("upload", "Upload of 1 KB", (32,)),
    Bulk(),
    BigFile(),
    Entries(),
    Sizes(),
    Calls(),
    Network(),
    Memory(),
)
