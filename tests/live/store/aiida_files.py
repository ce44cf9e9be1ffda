"""Sends a large file by the transport of aiida-firecrest, and fetches it. Arguments: the file, its path on the cluster.

It runs with the interpreter of .venv-aiida; the variables FIRECREST_* say where the gateway is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aiida import load_profile
from aiida.storage.sqlite_temp import SqliteTempBackend
from aiida_firecrest.transport import FirecrestTransport


def main() -> None:
    """Send and fetch."""
    load_profile(SqliteTempBackend.create_profile("live"), allow_switch=True)
    local, remote = Path(sys.argv[1]), sys.argv[2]
    transport = FirecrestTransport(
        url=os.environ["FIRECREST_URL"],
        token_uri=os.environ["FIRECREST_TOKEN_URL"],
        client_id=os.environ["FIRECREST_CLIENT_ID"],
        client_secret=os.environ["FIRECREST_SECRET"],
        compute_resource=os.environ["FIRECREST_SYSTEM"],
        temp_directory=remote.rpartition("/")[0],
        billing_account=os.environ["FIRECREST_ACCOUNT"],
        max_io_allowed=1,
        checksum_check=True,
    )
    with transport:
        transport.putfile(local, remote)
        transport.getfile(remote, Path(f"{local} back"))


if __name__ == "__main__":
    main()
