"""Presigned URLs: those of parts are the ones that botocore makes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.transfer.s3.presign import Presigner, StoreKey

KEY = StoreKey("id", "se+cret/", "eu-central-2")


@given(st.text(alphabet="aZ0.-_~+/=& %partNumber=1", min_size=1, max_size=40))
def test_urls_of_parts_are_those_of_botocore(upload: str) -> None:
    signer, numbers = Presigner("https://store.example.org:9000/", KEY, "path"), range(1, 12)
    for _ in range(3):  # a second may pass between the two
        urls = list(signer.part_urls("ten:bucket", "transfer-1/name", upload, numbers, 600))
        wanted = [
            signer.url("PUT", "ten:bucket", "transfer-1/name", 600, {"partNumber": str(number), "uploadId": upload})
            for number in numbers
        ]
        if urls == wanted:
            break
    assert urls == wanted


def test_styles_of_addresses() -> None:
    by_path = Presigner("http://store", KEY, "path").url("GET", "bucket", "a/b", 60)
    by_host = Presigner("http://store", KEY, "virtual").url("GET", "bucket", "a/b", 60)
    assert by_path.startswith("http://store/bucket/a/b?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert by_host.startswith("http://bucket.store/a/b?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert "X-Amz-Expires=60&" in by_path
    assert "%2Feu-central-2%2Fs3%2F" in by_path


def test_no_secret_is_shown() -> None:
    assert "cret" not in repr(KEY) + repr(Presigner("http://store", KEY, "path"))
