"""What `/status/systems` says of a cluster's transfer methods: sizes, times, ports. It contains no secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from flamecrest.server.settings import S3TransferSettings, StreamerTransferSettings, WormholeTransferSettings
from flamecrest.server.transfer.direct.parts import MAX_PARTS
from flamecrest.wire.systems import TransferMethod

from .transfers import direct_methods, work_root

if TYPE_CHECKING:
    from flamecrest.server.settings import ClusterSettings, DataOperationSettings, TransferSettings

LARGEST_PART: Final = 5 * 1024**3  # bytes of a part in S3


def transfer_methods(
    cluster: ClusterSettings, operations: DataOperationSettings, transfers: TransferSettings
) -> list[TransferMethod]:
    """The methods of transfer/upload and transfer/download, as wiring makes them."""
    served: dict[str, Literal["s3", "direct"]] = {"s3": "s3", "direct": "direct"}
    found = [
        TransferMethod(
            name=served[name],
            through="gateway",
            public_url=transfers.public_url,
            max_parts=MAX_PARTS,
            part_size=transfers.part_size,
            lifetime=round(transfers.lifetime),
        )
        for name in direct_methods(cluster, operations)
    ]
    transfer = operations.data_transfer
    match transfer:
        case S3TransferSettings() if work_root(cluster) is not None:
            store = TransferMethod(
                name="s3",
                through="store",
                public_url=transfer.public_url,
                max_size=MAX_PARTS * LARGEST_PART,
                max_parts=MAX_PARTS,
                part_size=transfer.multipart.max_part_size,
                lifetime=round(transfer.ttl),
            )
            found.insert(0, store)
        case StreamerTransferSettings():
            streamer = TransferMethod(
                name="streamer",
                through="node",
                max_size=transfer.inbound_transfer_limit,
                wait_timeout=round(transfer.wait_timeout),
                ports=transfer.port_range,
                public_addresses=list(transfer.public_ips) or None,
            )
            found.append(streamer)
        case WormholeTransferSettings():
            found.append(TransferMethod(name="wormhole", through="node", wait_timeout=round(transfer.wait_timeout)))
        case _:
            pass
    return found
