"""Settings of data operations: size limits, transfer jobs, and the methods of large transfers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from .problems import InvalidSetting
from .section import (
    Bytes,
    Count,
    FilledSecret,
    Kind,
    Port,
    Seconds,
    Secret,
    Section,
    Url,
    Word,
    none_if_blank,
)
from .use import NoEffect, ReadBy

PROBED = "probes of object stores are configured in `probing.services.s3` of a cluster"
NO_TRANSFER = NoEffect("it is only shown in `/status/systems`: transfer/upload and transfer/download answer 400")


class MultipartSettings(Section):
    """How large files are split for the object store."""

    USE = NO_TRANSFER

    use_split: bool = Field(default=False, description="Split the file into part files before the upload.")
    max_part_size: Bytes = Field(default=2 * 1024**3, description="The size of a part.")
    parallel_runs: Count = Field(default=3, description="The number of parts that are uploaded at the same time.")
    tmp_folder: Word = Field(default="tmp", description="The directory for part files.")


class BucketLifecycleSettings(Section):
    """Expiration of uploaded objects."""

    USE = NO_TRANSFER

    days: Count = Field(default=10, description="Days after which an object is removed.")


class S3StoreSettings(Section):
    """An S3 object store."""

    USE = NO_TRANSFER

    name: Word = Field(description="The name of the store.", examples=["s3-storage"])
    private_url: FilledSecret = Field(
        description="The store's URL for the gateway and the clusters.", examples=["https://s3.internal:9000"]
    )
    public_url: Url = Field(description="The store's URL for users.", examples=["https://s3.example.org"])
    access_key_id: FilledSecret = Field(
        description="The id of the access key.", examples=["secret_file:/run/secrets/s3_access_key_id"]
    )
    secret_access_key: Secret = Field(
        description="The secret of the access key.", examples=["secret_file:/run/secrets/s3_secret_access_key"]
    )
    region: Word = Field(description="The region that requests are signed for.", examples=["us-east-1"])
    ttl: Seconds = Field(description="Lifetime of presigned URLs.", examples=[604800])
    tenant: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The tenant that owns the buckets, if the store has tenants."
    )
    multipart: MultipartSettings = Field(default_factory=MultipartSettings, description="How large files are split.")
    bucket_lifecycle_configuration: BucketLifecycleSettings = Field(
        default_factory=BucketLifecycleSettings, description="Expiration of uploaded objects."
    )
    bucket_name_prefix: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="Prefix of all bucket names."
    )


class S3TransferSettings(S3StoreSettings):
    """Transfer of large files through an S3 object store."""

    TAG: ClassVar[str | None] = "service_type"
    IGNORED: ClassVar[Mapping[str, str]] = {"probing": PROBED, "probing_services": PROBED}

    service_type: Literal["s3"] = Field(description="The transfer method.", examples=["s3"])


class StorageSettings(S3StoreSettings):
    """One object store for all clusters; older form of `data_operation.data_transfer`."""

    IGNORED: ClassVar[Mapping[str, str]] = {
        "probing": PROBED,
        "services_health": "it is a result, not a setting",
    }

    max_ops_file_size: Annotated[Bytes | None, ReadBy("server.wiring")] = Field(
        default=None, description="Older form of `data_operation.max_ops_file_size`, for all clusters."
    )


def _ordered(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] > value[1]:
        raise InvalidSetting("ends before it begins", f"[{value[1]}, {value[0]}]")
    return value


class StreamerTransferSettings(Section):
    """Transfer of large files by a job that listens on a port of a compute node."""

    TAG: ClassVar[str | None] = "service_type"
    USE = NO_TRANSFER

    service_type: Literal["streamer"] = Field(description="The transfer method.", examples=["streamer"])
    host: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The address that the job listens on."
    )
    port_range: Annotated[tuple[Port, Port], Kind("two ports"), AfterValidator(_ordered)] = Field(
        default=(5665, 5675), description="The first and the last port that may be used."
    )
    public_ips: tuple[Word, ...] = Field(default=(), description="The addresses at which users reach the job.")
    wait_timeout: Seconds = Field(default=24 * 3600, description="How long the job waits for a connection.")
    inbound_transfer_limit: Bytes = Field(
        default=5 * 1024**3, description="The maximum number of bytes that the job receives."
    )
    pypi_index_url: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The package index that the job installs from; it may contain a password."
    )


class WormholeTransferSettings(Section):
    """Transfer of large files through magic-wormhole."""

    TAG: ClassVar[str | None] = "service_type"
    USE = NO_TRANSFER

    service_type: Literal["wormhole"] = Field(description="The transfer method.", examples=["wormhole"])
    pypi_index_url: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The package index that the job installs from; it may contain a password."
    )


def _tagged(value: Any) -> Any:
    if isinstance(value, Mapping) and "serviceType" in value and "service_type" not in value:
        return {("service_type" if key == "serviceType" else key): item for key, item in value.items()}
    return value


Transfer = Annotated[
    Annotated[
        S3TransferSettings | StreamerTransferSettings | WormholeTransferSettings, Field(discriminator="service_type")
    ],
    BeforeValidator(_tagged),
]


class DataOperationSettings(Section):
    """Size limits of file operations, and the method of large transfers."""

    USE = ReadBy("server.wiring")
    IGNORED: ClassVar[Mapping[str, str]] = {"probing": PROBED}

    max_ops_file_size: Bytes | None = Field(
        default=None,
        description="The maximum size of a file that is uploaded or downloaded directly. Not set: no limit; "
        "`/status/systems` then shows 5242880, the default of FirecREST.",
        examples=[5242880],
    )
    datatransfer_jobs_directives: tuple[str, ...] = Field(
        default=(),
        description="Directives at the beginning of transfer job scripts; `{account}` is replaced by the account in "
        "the request.",
        examples=[["#SBATCH --nodes=1", "#SBATCH --time=0-00:15:00", "#SBATCH --account={account}"]],
    )
    data_transfer: Annotated[Transfer | None, NO_TRANSFER] = Field(
        default=None, description="The method of large transfers."
    )
