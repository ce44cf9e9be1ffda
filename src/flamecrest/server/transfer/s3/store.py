"""The object store: one client for the process, whose requests run in a few threads. It knows no cluster.

Foreign errors become kinds by their S3 codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError
from botocore.handlers import validate_bucket_name

from flamecrest.server.errors import Conflict, Denied, GatewayError, NotFound, Unavailable, Upstream
from flamecrest.server.transfer.port import RefusedKey

from .pages import allow_pages
from .presign import AddressingStyle, StoreKey
from .silence import Silence
from .threads import DaemonThreads

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline

T = TypeVar("T")

THREADS: Final = 8
CONNECT_TIMEOUT: Final = 5.0  # seconds
READ_TIMEOUT: Final = 30.0  # seconds without a byte: radosgw needs that long for a bucket, after its start
PATIENCE: Final = 120.0  # the same for the completion of an upload: a store may copy the parts first
ATTEMPTS: Final = 3
ANSWER: Final = 60.0  # seconds for a request with all attempts, at most
LEAVING: Final = 5.0  # seconds for a request while the gateway stops: it tidies up
ANSWER_PART: Final = 0.8  # the part of the time left for it: the rest is for the error, and for tidying up
DOUBT: Final = 5.0  # seconds of a request after which the store is probed beside it, again and again
PROBE: Final = 10.0  # seconds for a request that any store answers at once

_log: Final = logging.getLogger(__name__)

_GONE: Final = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NoSuchUpload", "NotFound"})
_DENIED: Final = frozenset({"403", "AccessDenied", "AllAccessDisabled", "Forbidden"})
_KEY: Final = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "InvalidToken"})
_BUSY: Final = frozenset({"SlowDown", "ServiceUnavailable", "RequestTimeout", "InternalError", "500", "503"})
_FULL: Final = frozenset({"QuotaExceeded", "EntityTooLarge", "TooManyBuckets", "InsufficientCapacity"})


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A complete object: its size in bytes, and its entity tag without quotes."""

    size: int
    etag: str
    encrypted: bool = False  # with a key of the store's: then the entity tag is no checksum


class Store:
    """An S3 object store. `endpoint` is its address for the gateway. All methods can be repeated.

    All raise Unavailable if the store does not respond, Denied if it refuses the access key, and Upstream for anything
    else that it reports. They take `answer` seconds at most, and ANSWER_PART of the time until a `deadline`. The store
    is probed beside a request without an answer for `doubt` seconds, and after it. A store that answers the probe is
    slow, and the request goes on. While it does not answer, requests fail at once, except one at a time that tries it.
    Scripts of web pages from the origins `pages` may use the URLs of its objects.
    """

    def __init__(
        self,
        name: str,
        endpoint: str,
        key: StoreKey,
        style: AddressingStyle,
        *,
        lifecycle_days: int,
        pages: Sequence[str] = (),
        answer: float = ANSWER,
        doubt: float = DOUBT,
        probe: float = PROBE,
    ) -> None:
        self.name = name
        self._endpoint = endpoint
        self._key = key
        self._style = style
        self._ping: asyncio.Task[GatewayError | None] | None = None
        self._days, self._pages = lifecycle_days, pages
        self._answer, self._doubt, self._patience = answer, doubt, min(probe, answer)
        self._threads = DaemonThreads(THREADS, "s3")
        self._probers = DaemonThreads(ATTEMPTS + 1, "s3-probe")  # requests that hang may have all the others
        self._opening = threading.Lock()
        self._session = botocore.session.Session()
        self._clients: dict[float, Any] = {}  # by their timeouts
        self._silence = Silence()
        self._buckets: set[str] = set()  # that are known to exist

    def is_same(self, other: Store) -> bool:
        """Whether another client is one of the same store with the same access key."""
        mine, theirs = self._key, other._key
        return (self._endpoint, mine.access_key_id) == (other._endpoint, theirs.access_key_id)

    def leave(self) -> None:
        """Give requests from now on LEAVING seconds at most: the gateway stops."""
        self._answer = min(self._answer, LEAVING)

    def close(self) -> None:
        """Close the connections. Requests that run are not waited for."""
        if self._ping is not None:
            self._ping.cancel()
        self._threads.close()
        self._probers.close()
        for client in self._clients.values():
            client.close()

    async def ensure_bucket(self, bucket: str, deadline: Deadline | None = None) -> None:
        """Create a bucket with rules that expire what is left in it, unless it exists.

        Raises Conflict if it belongs to another owner.
        """
        if bucket not in self._buckets:
            await self._call(partial(self._make_bucket, bucket), self._limit(deadline))
            self._buckets.add(bucket)
            if self._pages:
                await self._allow_pages(bucket, deadline)

    async def _allow_pages(self, bucket: str, deadline: Deadline | None) -> None:
        """Let web pages use a bucket, beside the rules that it has. Not all stores can; other clients need none."""

        def ask() -> None:
            allow_pages(self._opened(), bucket, self._pages)

        try:
            await self._call(ask, self._limit(deadline))
        except GatewayError as error:
            _log.warning("web pages may not use the bucket %s: %s", bucket, error.detail or error.public)

    async def begin_upload(
        self,
        bucket: str,
        key: str,
        disposition: str,
        metadata: Mapping[str, str] | None = None,
        deadline: Deadline | None = None,
    ) -> str:
        """Begin a multipart upload in an existing bucket; returns its id. Raises NotFound if there is no bucket."""
        more = {"Metadata": dict(metadata)} if metadata else {}
        try:
            found = await self._request(
                "create_multipart_upload", deadline, Bucket=bucket, Key=key, ContentDisposition=disposition, **more
            )
        except NotFound:
            self._buckets.discard(bucket)
            raise
        return str(found["UploadId"])

    async def complete_upload(self, bucket: str, key: str, upload: str, etags: Sequence[str]) -> None:
        """Make an object of the parts with these entity tags. Raises NotFound if there is no such upload."""
        parts = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]}

        def complete() -> None:
            client = self._opened(PATIENCE)
            client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload=parts)

        try:
            await self._call(complete, None)
        except NotFound:
            if await self.head(bucket, key) is None:  # else it was complete: an answer was lost
                raise

    async def has_parts(self, bucket: str, key: str, upload: str, deadline: Deadline | None = None) -> bool:
        """Whether an upload has any part yet. Raises NotFound if it was completed or aborted."""
        found = await self._request("list_parts", deadline, Bucket=bucket, Key=key, UploadId=upload, MaxParts=1)
        return bool(found.get("Parts"))

    async def head(self, bucket: str, key: str, deadline: Deadline | None = None) -> StoredObject | None:
        """A complete object; None if there is none."""
        try:
            found = await self._request("head_object", deadline, Bucket=bucket, Key=key)
        except NotFound:
            return None
        encrypted = "kms" in str(found.get("ServerSideEncryption", "")) or "SSECustomerAlgorithm" in found
        return StoredObject(int(found["ContentLength"]), str(found["ETag"]).strip('"'), encrypted)

    async def ping(self, deadline: Deadline) -> None:
        """Return if the store answers and knows the gateway's key. Raises Unavailable, Upstream, Timeout."""
        async with deadline.enforce(f"The object store {self.name}"):
            error = await asyncio.shield(self._probe())
        if error is not None:
            raise type(error)(error.public, detail=error.detail)

    def _probe(self) -> asyncio.Task[GatewayError | None]:
        """Ask the store whether it answers: one at a time, as a request that hangs keeps a thread."""
        if self._ping is None or self._ping.done():
            self._ping = asyncio.create_task(self._answers())
        return self._ping

    async def _answers(self) -> GatewayError | None:
        """The error of a request that any store answers; None if it did."""
        try:
            await self._call(lambda: self._opened(self._patience).list_buckets(), self._patience, probe=True)
        except (Denied, NotFound):
            return None
        except GatewayError as error:
            return error
        return None

    async def remove(self, bucket: str, key: str) -> None:
        """Remove an object. No error if there is none."""
        with suppress(NotFound):
            await self._request("delete_object", Bucket=bucket, Key=key)

    async def discard(self, bucket: str, key: str, upload: str) -> None:
        """Remove the object, and abort its multipart upload. No error if there is neither."""
        await self.remove(bucket, key)
        with suppress(NotFound):
            await self._request("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)

    # --- in a thread

    def _make_bucket(self, bucket: str) -> None:
        client = self._opened()
        try:
            client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if _code(error) in _DENIED:
                self._require_key(client)
                raise Conflict(
                    f"The bucket {bucket} of the object store {self.name} belongs to another owner, or the access key "
                    "may not use it"
                ) from None
            if _code(error) not in _GONE:
                raise
        else:
            return
        try:
            self._create(client, bucket)
        except ClientError as error:
            if _code(error) == "BucketAlreadyOwnedByYou":  # another replica was faster
                return
            if _code(error) == "BucketAlreadyExists":
                raise Conflict(
                    f"The bucket {bucket} of the object store {self.name} belongs to another owner"
                ) from None
            raise
        rule = {
            "ID": "flamecrest",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "Expiration": {"Days": self._days},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": self._days},
        }
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})

    def _require_key(self, client: Any) -> None:
        """Raise ClientError if the store refuses the access key itself: the answer to HEAD has no reason."""
        try:
            client.list_buckets()
        except ClientError as error:
            if _code(error) in _KEY:
                raise

    def _create(self, client: Any, bucket: str) -> None:
        region = self._key.region
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            client.create_bucket(Bucket=bucket, **place)
        except ClientError as error:
            # Stores other than AWS have one region, and some of them want no name for it.
            if not place or _code(error) not in {"InvalidLocationConstraint", "IllegalLocationConstraintException"}:
                raise
            client.create_bucket(Bucket=bucket)

    def _opened(self, timeout: float = READ_TIMEOUT) -> Any:
        with self._opening:
            client = self._clients.get(timeout)
            if client is None:
                client = self._session.create_client(
                    "s3",
                    endpoint_url=self._endpoint,
                    region_name=self._key.region,
                    aws_access_key_id=self._key.access_key_id,
                    aws_secret_access_key=self._key.secret_access_key,
                    config=Config(
                        signature_version="s3v4",
                        connect_timeout=CONNECT_TIMEOUT,
                        read_timeout=timeout,
                        max_pool_connections=THREADS,
                        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                        s3={"addressing_style": self._style},
                        request_checksum_calculation="when_required",  # many stores do not know the newer checksums
                        response_checksum_validation="when_required",
                        proxies={},
                    ),
                )
                # the name of a bucket with a tenant has a colon
                client.meta.events.unregister("before-parameter-build.s3", validate_bucket_name)
                self._clients[timeout] = client
            return client

    # --- errors

    async def _request(self, operation: str, deadline: Deadline | None = None, **parameters: Any) -> Mapping[str, Any]:
        def ask() -> Mapping[str, Any]:
            found: Mapping[str, Any] = getattr(self._opened(), operation)(**parameters)
            return found

        return await self._call(ask, self._limit(deadline))

    def _limit(self, deadline: Deadline | None) -> float:
        """Seconds for a request of somebody who waits until the deadline."""
        return self._answer if deadline is None else min(self._answer, deadline.left() * ANSWER_PART)

    async def _call(self, function: Callable[[], T], limit: float | None, *, probe: bool = False) -> T:
        """Run a request in a thread, `limit` seconds at most. A probe is made while the store is silent, too."""
        if not probe and (wait := self._silence.wait()) is not None:
            raise self._silent(f"Not asked: tried again in {wait:.1f} s")
        try:
            found = await self._answer_to(function, limit, probe=probe)
        except ClientError as error:
            self._silence.answered()
            raise self._explained(error) from None
        except GatewayError:  # of what the store has answered
            self._silence.answered()
            raise
        except (ConnectTimeoutError, ReadTimeoutError) as error:
            self._silence.unanswered()
            raise self._silent(type(error).__name__) from None
        except BotoCoreError as error:
            self._silence.ended()
            raise Unavailable(
                f"The object store {self.name} does not respond", detail=type(error).__name__, retry_after=5
            ) from None
        except _NoAnswerError as error:
            raise self._silent(str(error)) from None
        except BaseException:
            self._silence.ended()
            raise
        self._silence.answered()
        return found

    async def _answer_to(self, function: Callable[[], T], limit: float | None, *, probe: bool) -> T:
        threads = self._probers if probe else self._threads
        asked = asyncio.get_running_loop().run_in_executor(threads, function)
        try:
            async with asyncio.timeout(limit) as given:
                return await (asked if probe else self._awaited(asked))
        except TimeoutError:
            if not given.expired():
                raise
            if probe or self._silence.lasts:
                self._silence.unanswered()
            else:
                self._probe()  # the request may be a slow one
            raise _NoAnswerError("No answer in time") from None
        finally:
            asked.cancel()

    async def _awaited(self, asked: asyncio.Future[T]) -> T:
        """Wait for the answer to a request as long as the store answers probes beside it."""
        while not (await asyncio.wait((asked,), timeout=self._doubt))[0]:
            probe = self._probe()
            waiting: tuple[asyncio.Future[Any], ...] = (asked, probe)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done() and self._silence.lasts:
                raise _NoAnswerError("No answer, and none to a probe")
        return asked.result()

    def _silent(self, detail: str) -> Unavailable:
        text = f"The object store {self.name} does not answer. Try again in some seconds"
        return Unavailable(text, detail=detail, retry_after=5)

    def _explained(self, error: ClientError) -> GatewayError:
        code, store = _code(error), f"The object store {self.name}"
        detail = str(error)
        if code in _GONE:
            return NotFound(f"{store}: no such object, upload or bucket", detail=detail)
        if code in _KEY:
            return RefusedKey(f"{store} refuses the access key of the gateway ({code})", detail=detail)
        if code in _DENIED:
            return Denied(f"{store} does not allow this with the access key of the gateway", detail=detail)
        if code in _BUSY:
            return Unavailable(f"{store} is overloaded ({code})", detail=detail, retry_after=5)
        if code in _FULL:
            return Upstream(f"{store}: a quota is exceeded ({code})", detail=detail)
        return Upstream(f"{store} reports an error ({code})", detail=detail)


class _NoAnswerError(Exception):
    """The store has not answered a request in time, or neither it nor a probe beside it."""


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
