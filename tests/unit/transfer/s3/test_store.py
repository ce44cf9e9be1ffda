"""The client of the object store, against a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from flamecrest.sandbox.store import ACCESS_KEY, REGION, SECRET_KEY, ObjectStore, object_store
from flamecrest.server.errors import Denied, GatewayError, NotFound, Unavailable, Upstream
from flamecrest.server.transfer.s3.presign import Presigner, StoreKey
from flamecrest.server.transfer.s3.store import Store

KEY = StoreKey(ACCESS_KEY, SECRET_KEY, REGION)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[ObjectStore]:
    async with object_store() as found:
        yield found


@pytest.fixture
async def store(place: ObjectStore) -> AsyncIterator[Store]:
    made = Store("ceph", place.url, KEY, "path", lifecycle_days=3)
    yield made
    made.close()
    place.gate.down = False


@pytest.mark.anyio
async def test_a_bucket_is_created_once_with_its_rules(store: Store, place: ObjectStore) -> None:
    await store.ensure_bucket("ten:new-bucket")
    await store.ensure_bucket("ten:new-bucket")
    rules = (await store._request("get_bucket_lifecycle_configuration", Bucket="ten:new-bucket"))["Rules"]
    assert [(rule["Expiration"]["Days"], rule["Status"]) for rule in rules] == [(3, "Enabled")]
    assert rules[0]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}


@pytest.mark.anyio
async def test_the_life_of_an_object(store: Store, place: ObjectStore) -> None:
    await store.ensure_bucket("bucket")
    upload = await store.begin_upload("bucket", "a/b", "attachment")
    assert await store.head("bucket", "a/b") is None
    (url,) = Presigner(place.url, KEY, "path").part_urls("bucket", "a/b", upload, range(1, 2), 60)
    async with httpx.AsyncClient(verify=False) as web:
        etag = (await web.put(url, content=b"abc")).headers["etag"]
    await store.complete_upload("bucket", "a/b", upload, [etag])
    found = await store.head("bucket", "a/b")
    assert found is not None
    assert (found.size, found.etag[-2:], found.encrypted) == (3, "-1", False)
    await store.remove("bucket", "a/b")
    await store.remove("bucket", "a/b")
    assert await store.head("bucket", "a/b") is None


@pytest.mark.anyio
async def test_an_upload_that_is_discarded(store: Store, place: ObjectStore) -> None:
    await store.ensure_bucket("bucket")
    upload = await store.begin_upload("bucket", "a/c", "attachment")
    await store.discard("bucket", "a/c", upload)
    (url,) = Presigner(place.url, KEY, "path").part_urls("bucket", "a/c", upload, range(1, 2), 60)
    async with httpx.AsyncClient(verify=False) as web:
        assert (await web.put(url, content=b"abc")).status_code >= 400
    assert (await store._request("list_multipart_uploads", Bucket="bucket")).get("Uploads", []) == []


@pytest.mark.anyio
async def test_a_bucket_that_was_removed(store: Store, place: ObjectStore) -> None:
    await store.ensure_bucket("removed")
    await store._request("delete_bucket", Bucket="removed")
    with pytest.raises(NotFound):
        await store.begin_upload("removed", "a", "attachment")
    await store.ensure_bucket("removed")
    assert await store.begin_upload("removed", "a", "attachment")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("key", "operation", "kind", "text"),
    [
        (StoreKey("other", SECRET_KEY, REGION), "begin", Upstream, "refuses the access key of the gateway"),
        (StoreKey(ACCESS_KEY, "wrong", REGION), "begin", Upstream, "refuses the access key of the gateway"),
        (StoreKey(ACCESS_KEY, "wrong", REGION), "head", Denied, "does not allow this"),
        (StoreKey(ACCESS_KEY, "wrong", REGION), "bucket", Upstream, "refuses the access key of the gateway"),
    ],
)
async def test_refusals(place: ObjectStore, key: StoreKey, operation: str, kind: type[GatewayError], text: str) -> None:
    store = Store("ceph", place.url, key, "path", lifecycle_days=3)
    with pytest.raises(kind, match=text) as raised:
        match operation:
            case "begin":
                await store.begin_upload("bucket", "a", "attachment")
            case "head":
                await store.head("bucket", "a")
            case _:
                await store.ensure_bucket("bucket")
    assert "ceph" in raised.value.public
    assert key.secret_access_key not in f"{raised.value.public} {raised.value.detail}"
    store.close()


@pytest.mark.anyio
async def test_a_store_that_is_not_there() -> None:
    store = Store("ceph", "http://127.0.0.1:9", KEY, "path", lifecycle_days=3)
    with pytest.raises(Unavailable, match="The object store ceph does not respond"):
        await store.head("bucket", "a")
    store.close()


PORTAL = "https://portal.example.org"


@pytest.mark.anyio
async def test_web_pages_may_use_a_bucket_beside_the_rules_that_it_has(store: Store, place: ObjectStore) -> None:
    await store.ensure_bucket("of-pages")
    other = {"AllowedOrigins": ["https://other.example.org"], "AllowedMethods": ["GET"]}
    await store._request("put_bucket_cors", Bucket="of-pages", CORSConfiguration={"CORSRules": [other]})
    for pages in ([PORTAL], [PORTAL], ["*"]):  # the last is another configuration of a later gateway
        later = Store("ceph", place.url, KEY, "path", lifecycle_days=3, pages=pages)
        await later.ensure_bucket("of-pages")
        later.close()
        rules = (await store._request("get_bucket_cors", Bucket="of-pages"))["CORSRules"]
        assert [rule["AllowedOrigins"] for rule in rules] == [["https://other.example.org"], pages]
        assert "ETag" in rules[1]["ExposeHeaders"]
        assert "PUT" in rules[1]["AllowedMethods"]


@pytest.mark.anyio
async def test_a_new_bucket_has_no_rules_for_web_pages_without_origins(store: Store, place: ObjectStore) -> None:
    await store.ensure_bucket("of-no-pages")
    with pytest.raises(Upstream, match="NoSuchCORSConfiguration"):
        await store._request("get_bucket_cors", Bucket="of-no-pages")
