"""An S3 object store in a thread: moto stores the objects, and every request must be signed with the store's key.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import asyncio
import calendar
import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ACCESS_KEY = "sandbox-key"
SECRET_KEY = "sandbox-secret"
REGION = "us-east-1"

Environ = Mapping[str, Any]
StartResponse = Callable[..., Any]


class Refused(Exception):
    """The code of an S3 error."""


class SignedOnly:
    """A WSGI application that passes on what is signed with the key and has not expired."""

    def __init__(self, application: Callable[[Any, StartResponse], Iterable[bytes]]) -> None:
        self._application = application
        self.down = False  # answers nothing but 503, as a store that is overloaded
        self.failures = 0  # so many further requests are answered with 503
        self.other_tags = 0  # so many further parts get an entity tag that is no MD5, as of a store that encrypts
        self.seen: list[str] = []  # method and range of the requests that were passed on
        self.held = ""  # requests with this text in their method, address or range wait for `go_on`
        self.go_on = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            if self.down or self.failures:
                self.failures -= not self.down
                raise Refused("ServiceUnavailable")
            verify(environ, time.time())
            asked = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ.get('HTTP_RANGE')}"
            if self.held and self.held in asked:
                self.go_on.wait()
        except Refused as refused:
            left = int(environ.get("CONTENT_LENGTH") or 0)
            while left > 0 and (data := environ["wsgi.input"].read(min(left, 65536))):
                left -= len(data)  # the client sends its whole request before it reads an answer
            code = str(refused)
            body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'.encode()
            status = "503 Service Unavailable" if code == "ServiceUnavailable" else "403 Forbidden"
            start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        shown = environ.get("HTTP_RANGE") or ("with MD5" if "HTTP_CONTENT_MD5" in environ else "")
        self.seen.append(f"{environ['REQUEST_METHOD']} {shown}".strip())
        if environ["REQUEST_METHOD"] == "PUT" and self.other_tags:
            self.other_tags -= 1
            start_response = _other_tag(start_response)
        return self._application(environ, start_response)


def _other_tag(start_response: StartResponse) -> StartResponse:
    def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        changed = [(name, '"encrypted"' if name.lower() == "etag" else value) for name, value in headers]
        return start_response(status, changed, *more)

    return start


def verify(environ: Environ, now: float) -> None:
    """Raise Refused unless the request has a valid signature, in its query or its Authorization header."""
    path, _, query = str(environ["RAW_URI"]).partition("?")
    pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
    given = {unquote(name): unquote(value) for name, value in pairs}
    if len(given) != len(pairs):
        raise Refused("InvalidRequest")
    headers = {name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name[:5] == "HTTP_"}
    if "X-Amz-Signature" in given:
        signature, credential = given["X-Amz-Signature"], given.get("X-Amz-Credential", "")
        signed, stamp = given.get("X-Amz-SignedHeaders", ""), given.get("X-Amz-Date", "")
        life, content = int(given.get("X-Amz-Expires", "0")), "UNSIGNED-PAYLOAD"
    else:
        fields = dict(field.strip().partition("=")[::2] for field in headers.get("authorization", "")[16:].split(","))
        signature, credential = fields.get("Signature", ""), fields.get("Credential", "")
        signed, stamp = fields.get("SignedHeaders", ""), headers.get("x-amz-date", "")
        life, content = 900, headers.get("x-amz-content-sha256", "")
    if credential.partition("/")[0] != ACCESS_KEY:
        raise Refused("InvalidAccessKeyId" if credential else "AccessDenied")
    if any(name.startswith("x-amz-") and name not in signed.split(";") for name in headers):
        raise Refused("AccessDenied")
    pairs = sorted(pair for pair in pairs if pair[0] != "X-Amz-Signature")
    canonical = "\n".join(
        [
            str(environ["REQUEST_METHOD"]),
            quote(unquote(path), safe="/~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(_header(environ, headers, name).split())}" for name in signed.split(";")),
            "",
            signed,
            content,
        ]
    )
    day, scope = stamp[:8], credential.partition("/")[2]
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + SECRET_KEY.encode()
    for part in (day, *scope.split("/")[1:]):
        key = hmac.digest(key, part.encode(), "sha256")
    if scope.split("/")[:1] != [day] or not hmac.compare_digest(
        hmac.digest(key, text.encode(), "sha256").hex(), signature
    ):
        raise Refused("SignatureDoesNotMatch")
    if calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) + life < now:
        raise Refused("AccessDenied")


def _header(environ: Environ, headers: Mapping[str, str], name: str) -> str:
    if name in {"content-type", "content-length"}:
        return str(environ.get(name.upper().replace("-", "_"), ""))
    return headers.get(name, "")


class ObjectStore:
    """The store: its address, and `gate`, which can be told to refuse everything."""

    def __init__(self, url: str, gate: SignedOnly) -> None:
        self.url = url
        self.gate = gate

    def settings(self, **more: Any) -> dict[str, Any]:
        """The settings `data_transfer` of a cluster that uses this store."""
        return {
            "service_type": "s3",
            "name": "sandbox-store",
            "private_url": self.url,
            "public_url": self.url,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            "region": REGION,
            "ttl": 3600,
            **more,
        }


@asynccontextmanager
async def object_store() -> AsyncIterator[ObjectStore]:
    """A store on a free port of this machine. What it holds ends with the process."""
    from moto.moto_server.werkzeug_app import create_backend_app  # noqa: PLC0415 -- it takes a second
    from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: PLC0415

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any) -> None:
            """Log nothing."""

    def start() -> tuple[Any, SignedOnly]:
        gate = SignedOnly(create_backend_app("s3"))
        return make_server("127.0.0.1", 0, gate, threaded=True, request_handler=Quiet), gate

    server, gate = await asyncio.to_thread(start)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield ObjectStore(f"http://127.0.0.1:{server.server_port}", gate)
    finally:
        await asyncio.to_thread(server.shutdown)
        await asyncio.to_thread(server.server_close)
