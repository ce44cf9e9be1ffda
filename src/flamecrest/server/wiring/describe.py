"""The description of a cluster in `/status/systems`, made from its settings. It must not contain secrets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, assert_never

from flamecrest.server.settings import S3TransferSettings, StreamerTransferSettings, WormholeTransferSettings
from flamecrest.wire import systems as wire

from .methods import transfer_methods
from .transfers import direct_methods

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.server.health.board import ProbeResult
    from flamecrest.server.settings import (
        ClusterSettings,
        DataOperationSettings,
        ProbingSettings,
        SshSettings,
        TransferSettings,
    )
    from flamecrest.server.ssh.pool.pool import Pool


def description(
    cluster: ClusterSettings, operations: DataOperationSettings, transfers: TransferSettings
) -> wire.HPCCluster:
    """The part of the description that does not change while the gateway runs."""
    scheduler = cluster.scheduler
    return wire.HPCCluster(
        name=cluster.name,
        ssh=_ssh(cluster.ssh),
        scheduler=wire.Scheduler(
            type=wire.SchedulerType(scheduler.type),
            connection_mode=wire.SchedulerConnectionMode(scheduler.connection_mode),
            version=scheduler.version,
            api_url=scheduler.api_url,
            api_version=scheduler.api_version,
            timeout=round(scheduler.timeout),
        ),
        probing=_probing(cluster.probing),
        file_systems=[
            wire.FileSystem(
                path=system.path,
                data_type=wire.FileSystemDataType(system.data_type),
                default_work_dir=system.default_work_dir,
            )
            for system in cluster.file_systems
        ],
        data_operation=_operations(operations, transfers, direct_methods(cluster, operations)),
        transfer_methods=transfer_methods(cluster, operations, transfers),
    )


def with_health(
    described: wire.HPCCluster, results: Sequence[ProbeResult], last_run: datetime | None
) -> wire.HPCCluster:
    """The description with the current health of the cluster."""
    shown = [
        wire.HEALTH_OF[service].model_validate(
            {
                "service_type": service,
                "last_checked": result.checked,
                "latency": None if result.latency is None else round(result.latency, 3),
                "since": result.since,
                "healthy": result.healthy,
                "message": result.message,
                **({"path": result.path} if result.path is not None else {}),
            }
        )
        for result in results
        for service in (wire.BackendServiceType(result.service.value),)
    ]
    return described.model_copy(update={"services_health": shown, "last_health_check": last_run})


def with_nodes(described: wire.HPCCluster, pool: Pool) -> wire.HPCCluster:
    """The description with the current state of the login nodes, if there are several."""
    if not pool.nodes.several:
        return described
    now = datetime.now(UTC)
    nodes = [
        wire.LoginNode(
            host=one.host.host,
            port=one.host.port,
            address=one.host.address,
            zone=one.host.zone,
            weight=one.host.weight,
            state=one.health.value,
            since=now - timedelta(seconds=one.since),
            reason=one.reason,
            connections=one.connections,
        )
        for one in pool.nodes.report(pool.all_connections())
    ]
    return described.model_copy(update={"ssh": described.ssh.model_copy(update={"nodes": nodes})})


def _ssh(ssh: SshSettings) -> wire.SSHClientPool:
    times = ssh.timeout
    return wire.SSHClientPool(
        host=ssh.host,
        port=ssh.port,
        proxy_host=ssh.proxy_host,
        proxy_port=ssh.proxy_port,
        max_clients=ssh.max_clients,
        timeout=wire.SSHTimeouts(
            connection=round(times.connection),
            login=round(times.login),
            command_execution=round(times.command_execution),
            idle_timeout=round(times.idle_timeout),
            keep_alive=round(times.keep_alive),
        ),
    )


def _probing(probing: ProbingSettings) -> wire.ProbingServices:
    services = {
        wire.BackendServiceType(name): wire.ProbingService(timeout=round(timeout))
        for name, timeout in probing.timeouts().items()
    }
    return wire.ProbingServices(interval_check=round(probing.interval_check), services=services or None)


def _operations(
    operations: DataOperationSettings, transfers: TransferSettings, methods: Sequence[str]
) -> wire.DataOperation:
    # Clients expect a number. Without a limit it is the default of FirecREST, to which they then keep.
    limits = {} if operations.max_ops_file_size is None else {"max_ops_file_size": operations.max_ops_file_size}
    return wire.DataOperation(
        **limits,
        datatransfer_jobs_directives=list(operations.datatransfer_jobs_directives),
        data_transfer=_gateway(transfers)
        if "s3" in methods and operations.data_transfer is None
        else _transfer(operations),
    )


def _gateway(transfers: TransferSettings) -> wire.S3DataTransfer:
    """The gateway itself, which clients use as they use an object store."""
    return wire.S3DataTransfer(
        service_type="s3",
        name="gateway",
        public_url=transfers.public_url or "",
        region="",
        ttl=round(transfers.lifetime),
        multipart=wire.MultipartUpload(max_part_size=transfers.part_size),
    )


def _transfer(
    operations: DataOperationSettings,
) -> wire.S3DataTransfer | wire.StreamerDataTransfer | wire.WormholeDataTransfer | None:
    transfer = operations.data_transfer
    match transfer:
        case None:
            return None
        case S3TransferSettings():
            return wire.S3DataTransfer(
                service_type="s3",
                name=transfer.name,
                public_url=transfer.public_url,
                region=transfer.region,
                ttl=round(transfer.ttl),
                tenant=transfer.tenant,
                multipart=wire.MultipartUpload(**transfer.multipart.model_dump()),
                bucket_lifecycle_configuration=wire.BucketLifecycleConfiguration(
                    days=transfer.bucket_lifecycle_configuration.days
                ),
            )
        case StreamerTransferSettings():
            # pypi_index_url may contain a password, so it is not shown
            return wire.StreamerDataTransfer(
                service_type="streamer",
                host=transfer.host,
                port_range=transfer.port_range,
                public_ips=list(transfer.public_ips) or None,
                wait_timeout=round(transfer.wait_timeout),
                inbound_transfer_limit=transfer.inbound_transfer_limit,
                require_tls=transfer.require_tls,
            )
        case WormholeTransferSettings():
            return wire.WormholeDataTransfer(
                service_type="wormhole", mailbox_url=transfer.mailbox_url, transit_relay=transfer.transit_relay
            )
        case _:
            assert_never(transfer)
