"""What happens to data: size limits, directives of transfer jobs, and the stores that large files go through."""

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

PROBED = "object stores are probed with the cluster (`probing.services.s3`)"


class MultipartSettings(Section):
    """How large files are cut for the store."""

    use_split: bool = Field(default=False, description="Cut the file into part files before they are uploaded.")
    max_part_size: Bytes = Field(default=2 * 1024**3, description="The size of a part.")
    parallel_runs: Count = Field(default=3, description="How many parts are uploaded at a time.")
    tmp_folder: Word = Field(default="tmp", description="The folder for part files.")


class BucketLifecycleSettings(Section):
    """When the store forgets what was uploaded."""

    days: Count = Field(default=10, description="Days after which an object is removed.")


class S3StoreSettings(Section):
    """An S3 object store."""

    name: Word = Field(description="The name of the store.", examples=["s3-storage"])
    private_url: FilledSecret = Field(
        description="The store's URL as the gateway and the clusters reach it.", examples=["https://s3.internal:9000"]
    )
    public_url: Url = Field(description="The store's URL as users reach it.", examples=["https://s3.example.org"])
    access_key_id: FilledSecret = Field(
        description="The id of the access key.", examples=["secret_file:/run/secrets/s3_access_key_id"]
    )
    secret_access_key: Secret = Field(
        description="The secret of the access key.", examples=["secret_file:/run/secrets/s3_secret_access_key"]
    )
    region: Word = Field(description="The region that requests are signed for.", examples=["us-east-1"])
    ttl: Seconds = Field(description="How long a presigned URL is valid.", examples=[604800])
    tenant: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The tenant that buckets belong to, where the store has tenants."
    )
    multipart: MultipartSettings = Field(default_factory=MultipartSettings, description="How large files are cut.")
    bucket_lifecycle_configuration: BucketLifecycleSettings = Field(
        default_factory=BucketLifecycleSettings, description="When uploaded objects are removed."
    )
    bucket_name_prefix: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="What every bucket's name begins with."
    )


class S3TransferSettings(S3StoreSettings):
    """Large files go through an S3 object store."""

    TAG: ClassVar[str | None] = "service_type"
    IGNORED: ClassVar[Mapping[str, str]] = {"probing": PROBED, "probing_services": PROBED}

    service_type: Literal["s3"] = Field(description="The method of transfer.", examples=["s3"])


class StorageSettings(S3StoreSettings):
    """The object store in its older place, one for all clusters."""

    IGNORED: ClassVar[Mapping[str, str]] = {
        "probing": PROBED,
        "services_health": "a result, no setting",
    }

    max_ops_file_size: Bytes | None = Field(
        default=None, description="Older place of `data_operation.max_ops_file_size`, for all clusters."
    )


def _ordered(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] > value[1]:
        raise InvalidSetting("ends before it begins", f"[{value[1]}, {value[0]}]")
    return value


class StreamerTransferSettings(Section):
    """Large files are streamed by a job that listens on a port of a compute node."""

    TAG: ClassVar[str | None] = "service_type"

    service_type: Literal["streamer"] = Field(description="The method of transfer.", examples=["streamer"])
    host: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The address that the job listens on."
    )
    port_range: Annotated[tuple[Port, Port], Kind("two ports"), AfterValidator(_ordered)] = Field(
        default=(5665, 5675), description="The first and the last port that may be used."
    )
    public_ips: tuple[Word, ...] = Field(default=(), description="The addresses that users reach the job at.")
    wait_timeout: Seconds = Field(default=24 * 3600, description="How long the job waits for a connection.")
    inbound_transfer_limit: Bytes = Field(default=5 * 1024**3, description="The most bytes that the job takes in.")
    pypi_index_url: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The package index that the job installs from; may hold a password."
    )


class WormholeTransferSettings(Section):
    """Large files go through magic-wormhole."""

    TAG: ClassVar[str | None] = "service_type"

    service_type: Literal["wormhole"] = Field(description="The method of transfer.", examples=["wormhole"])
    pypi_index_url: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The package index that the job installs from; may hold a password."
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
    """What may be done with data, and how large files travel."""

    IGNORED: ClassVar[Mapping[str, str]] = {"probing": PROBED}

    max_ops_file_size: Bytes | None = Field(
        default=None,
        description="The largest file that upload and download take directly. Not set: no limit "
        "(FirecREST's own default is 5242880, which is what `/status/systems` goes on to show).",
        examples=[5242880],
    )
    datatransfer_jobs_directives: tuple[str, ...] = Field(
        default=(),
        description="Lines at the head of transfer jobs' scripts; `{account}` stands for the account in the request.",
        examples=[["#SBATCH --nodes=1", "#SBATCH --time=0-00:15:00", "#SBATCH --account={account}"]],
    )
    data_transfer: Transfer | None = Field(default=None, description="How large files travel.")
