"""Which web pages may use the objects of a bucket: its CORS rules.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ID: Final = "flamecrest"
_READABLE: Final = ["ETag", "Content-Range", "Content-Length", "Accept-Ranges", "x-amz-meta-sha256"]
_LIFE: Final = 3600  # seconds for which a browser need not ask again


def allow_pages(client: Any, bucket: str, origins: Sequence[str]) -> None:
    """Let scripts of pages from these origins use presigned URLs of a bucket. Its other rules stay.

    Raises ClientError, such as that of a store that has no such rules.
    """
    rule = {
        "ID": _ID,
        "AllowedOrigins": list(origins),
        "AllowedMethods": ["GET", "HEAD", "PUT", "POST", "DELETE"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": _READABLE,
        "MaxAgeSeconds": _LIFE,
    }
    try:
        rules = client.get_bucket_cors(Bucket=bucket)["CORSRules"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "NoSuchCORSConfiguration":
            raise
        rules = []
    mine = [one for one in rules if one.get("ID") == _ID]
    if len(mine) == 1 and set(mine[0]["AllowedOrigins"]) == set(origins):
        return
    others = [one for one in rules if one.get("ID") != _ID]
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [*others, rule]})
