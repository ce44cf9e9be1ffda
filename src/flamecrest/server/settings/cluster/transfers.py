"""Settings of data operations: size limits, transfer jobs, and the methods of large transfers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import (
    FLAMECREST_ONLY,
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
from flamecrest.server.settings.use import NoEffect, ReadBy

PROBED = "probes of object stores are configured in `probing.services.s3` of a cluster"
LEAST_KEY = 32  # characters of the key that URLs are signed with
S3_READER = ReadBy("server.wiring")
NO_PART_FILES = NoEffect("parts are read from the file itself; there are no part files")
NO_TRANSFER = NoEffect("it is only shown in `/status/systems`: transfer/upload and transfer/download answer 400")


class MultipartSettings(Section):
    """How large files are split for the object store."""

    USE = S3_READER

    use_split: Annotated[bool, NO_PART_FILES] = Field(
        default=False, description="Split the file into part files before the upload."
    )
    max_part_size: Bytes = Field(
        default=2 * 1024**3,
        description="The size of a part; at least 5 MiB, at most 5 GiB. A file of more than 10,000 parts has larger "
        "ones.",
    )
    parallel_runs: Count = Field(default=3, description="The number of parts that are moved at the same time.")
    tmp_folder: Annotated[Word, NO_PART_FILES] = Field(default="tmp", description="The directory for part files.")


class BucketLifecycleSettings(Section):
    """Expiration of uploaded objects."""

    USE = S3_READER

    days: Count = Field(
        default=10,
        description="Days after which the store removes an object, or an upload that was not completed. It is set when "
        "a bucket is created.",
    )


class S3StoreSettings(Section):
    """An S3 object store."""

    USE = S3_READER

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
    ttl: Seconds = Field(description="Lifetime of presigned URLs; S3 allows 604800 at most.", examples=[604800])
    tenant: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="The tenant that owns the buckets, if the store has tenants (Ceph). URLs need the path style then.",
    )
    multipart: MultipartSettings = Field(default_factory=MultipartSettings, description="How large files are split.")
    bucket_lifecycle_configuration: BucketLifecycleSettings = Field(
        default_factory=BucketLifecycleSettings, description="Expiration of uploaded objects."
    )
    bucket_name_prefix: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="Prefix of all bucket names; the name of the account follows."
    )
    addressing_style: Literal["path", "virtual"] = Field(
        default="path",
        description="Where URLs have the bucket: `path` (https://store/bucket/key) or `virtual` "
        "(https://bucket.store/key).",
        json_schema_extra=FLAMECREST_ONLY,
    )
    mover: Literal["job", "gateway"] = Field(
        default="job",
        description="What moves data between store and cluster: a `job` of the scheduler, or the `gateway` itself.",
        json_schema_extra=FLAMECREST_ONLY,
    )

    copy_through: Literal["gateway", "store"] = Field(
        default="gateway",
        description="What a file goes through that `transfer/copy` copies from this cluster to another one: the "
        "`gateway`, or the `store`, by the movers of both clusters, if the other cluster uses the same store. Folders "
        "go through the gateway.",
        json_schema_extra=FLAMECREST_ONLY,
    )

    @model_validator(mode="after")
    def _one_place_for_the_tenant(self) -> Self:
        if self.tenant is not None and self.addressing_style == "virtual":
            raise InvalidSetting("a `tenant` cannot be in the name of a host", "`addressing_style: path`")
        return self


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


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise InvalidSetting("is not an absolute path", "/usr/bin/python3")
    return value


def _is_mailbox(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"wss?://\S+", value):
        raise InvalidSetting("is not a mailbox server", "ws://HOST:PORT/v1")
    return value


def _is_relay(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"tcp:[^:\s]+:[0-9]{1,5}", value):
        raise InvalidSetting("is not a transit relay", "tcp:HOST:PORT")
    return value


Interpreter = Annotated[Word | None, BeforeValidator(none_if_blank)]


class StreamerTransferSettings(Section):
    """Transfer of large files by a job that listens on a port of a compute node."""

    TAG: ClassVar[str | None] = "service_type"
    USE = ReadBy("server.wiring")

    service_type: Annotated[Literal["streamer"], ReadBy("server.settings")] = Field(
        description="The transfer method.", examples=["streamer"]
    )
    host: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The address that the job listens on. Not set: all addresses of the node."
    )
    port_range: Annotated[tuple[Port, Port], Kind("two ports"), AfterValidator(_ordered)] = Field(
        default=(5665, 5675),
        description="The first and the last port that may be used. A job takes the first one that is free.",
    )
    public_ips: tuple[Word, ...] = Field(
        default=(),
        description="The addresses at which users reach the nodes; clients try them in this order. Not set: "
        "`localhost`, for users who forward the ports.",
    )
    wait_timeout: Seconds = Field(default=24 * 3600, description="How long the job waits for a connection.")
    retry_timeout: Seconds = Field(
        default=300,
        description="How long the job waits for a client whose connection was lost, before it ends as failed.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    inbound_transfer_limit: Bytes = Field(
        default=5 * 1024**3, description="The maximum number of bytes that the job receives."
    )
    require_tls: bool = Field(
        default=False,
        description="Refuse clients without TLS. `flamecrest stream` uses TLS; firecrest-streamer and pyfirecrest "
        "cannot, and send the secret and the file in plain text.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    python: Annotated[Interpreter, AfterValidator(lambda value: None if value is None else _absolute(value))] = Field(
        default=None,
        description="The Python interpreter on compute nodes, 3.6 or later. Not set: the first one that a job finds.",
        examples=["/opt/python/bin/python3"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    pypi_index_url: Annotated[
        Secret | None,
        BeforeValidator(none_if_blank),
        NoEffect("the job carries its program, which needs Python alone and no package"),
    ] = Field(default=None, description="The package index that FirecREST's job installs from.")


class WormholeTransferSettings(Section):
    """Transfer of large files through magic-wormhole."""

    TAG: ClassVar[str | None] = "service_type"
    USE = ReadBy("server.wiring")

    service_type: Annotated[Literal["wormhole"], ReadBy("server.settings")] = Field(
        description="The transfer method.", examples=["wormhole"]
    )
    mailbox_url: Annotated[Word | None, BeforeValidator(none_if_blank), AfterValidator(_is_mailbox)] = Field(
        default=None,
        description="The mailbox server, at which both sides meet; users set it as `WORMHOLE_RELAY_URL`. Not set: "
        "magic-wormhole's public one.",
        examples=["ws://wormhole.example.org:4000/v1"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    transit_relay: Annotated[Word | None, BeforeValidator(none_if_blank), AfterValidator(_is_relay)] = Field(
        default=None,
        description="The transit relay, for sides that cannot connect to each other; users set it as "
        "`WORMHOLE_TRANSIT_HELPER`. Not set: magic-wormhole's public one.",
        examples=["tcp:wormhole.example.org:4001"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    wait_timeout: Seconds = Field(
        default=24 * 3600,
        description="How long the job waits for the other side.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    python: Annotated[Interpreter, AfterValidator(lambda value: None if value is None else _absolute(value))] = Field(
        default=None,
        description="The Python interpreter on compute nodes, 3.6 or later; it may have magic-wormhole. Not set: the "
        "job looks for python3 and for the one of the command `wormhole`.",
        examples=["/opt/wormhole/bin/python3"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    install: bool = Field(
        default=True,
        description="Whether a job installs magic-wormhole, in a temporary folder of its node, if it finds none.",
        json_schema_extra=FLAMECREST_ONLY,
    )
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


def _strong(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < LEAST_KEY:
        raise InvalidSetting(f"has fewer than {LEAST_KEY} characters", "the output of `openssl rand -base64 32`")
    return value


class TransferSettings(Section):
    """Transfers of large files through the gateway itself: `transferMethod` direct, and s3 without an object store."""

    USE = ReadBy("server.wiring")

    signing_key: Annotated[Secret | None, AfterValidator(lambda value: None if value is None else _strong(value))] = (
        Field(
            default=None,
            description="The key that URLs of transfers are signed with, the same for all replicas; at least "
            f"{LEAST_KEY} characters. Not set: a new key at each start. Then a URL is valid at the process that made "
            "it only, and transfers end with the process.",
            examples=["secret_file:/run/secrets/transfer_signing_key"],
            json_schema_extra=FLAMECREST_ONLY,
        )
    )
    public_url: Annotated[Url | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="The address of the API for users, with its path prefix; URLs of transfers begin with it. "
        "Not set: the address of the request, as trusted proxies have forwarded it.",
        examples=["https://api.example.org/firecrest/v2"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    lifetime: Seconds = Field(
        default=24 * 3600,
        description="Time that a client has for a transfer. Then its URLs are invalid, and its parts are removed.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    part_size: Bytes = Field(
        default=64 * 1024**2,
        description="The size of a part of an upload. A file of more than 10,000 parts has larger ones.",
        json_schema_extra=FLAMECREST_ONLY,
    )


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
    data_transfer: Transfer | None = Field(default=None, description="The method of large transfers.")
