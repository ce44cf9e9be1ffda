"""A page of another origin in a real browser uses the API; left out on machines without Chromium."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.centre import Centre

from .process import gateway

CHROMIUM = shutil.which("chromium")
USER = "fireuser"
SCRIPT = """<!DOCTYPE html><script>
const {API, TOKEN, FOLDER, SYSTEM} = VALUES;
const api = API, token = {Authorization: "Bearer " + TOKEN}, tus = {...token, "Tus-Resumable": "1.0.0"};
const seen = {};
async function ask(name, path, options = {}) {
  const answer = {};
  try {
    const r = await fetch(path.startsWith("/") ? api + path : path, options), whole = await r.text();
    Object.assign(answer, {whole});
    seen[name] = {status: r.status, body: whole.slice(0, 200), id: r.headers.get("x-request-id"),
      etag: r.headers.get("etag"), location: r.headers.get("location"), offset: r.headers.get("upload-offset"),
      range: r.headers.get("content-range")};
  } catch (error) { seen[name] = {failed: String(error)}; }
  return Object.assign(answer, seen[name]);
}
(async () => {
  const file = encodeURIComponent(FOLDER + "/of a browser"), ops = "/filesystem/" + SYSTEM + "/ops/";
  await ask("put", ops + "upload?path=" + file, {method: "PUT", headers: token, body: "hello"});
  await ask("part", ops + "download?path=" + file, {headers: {...token, Range: "bytes=1-2"}});
  await ask("remove", ops + "rm?path=" + file, {method: "DELETE", headers: token});
  await ask("missing", ops + "stat?path=" + file, {headers: token});
  await ask("stranger", "/status/systems");
  await ask("method", "/status/systems", {method: "PATCH", headers: token});
  const metadata = {"Upload-Length": "4", "Upload-Metadata": "path " + btoa(FOLDER + "/resumed")};
  const creation = {method: "POST", headers: {...tus, ...metadata}};
  const made = await ask("create", "/filesystem/" + SYSTEM + "/uploads", creation);
  const piece = {...tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"};
  await ask("append", made.location, {method: "PATCH", headers: piece, body: "data"});
  const wanted = {path: FOLDER + "/sent", transferDirectives: {transferMethod: "s3", fileSize: 5}};
  const json = {method: "POST", headers: {...token, "Content-Type": "application/json"}, body: JSON.stringify(wanted)};
  const started = await ask("start", "/filesystem/" + SYSTEM + "/transfer/upload", json);
  const nothing = '{"transferDirectives": {"partsUploadUrls": ["/"], "completeUploadUrl": "/"}}';
  const urls = JSON.parse(started.whole || nothing).transferDirectives;
  const sent = await ask("send", urls.partsUploadUrls[0], {method: "PUT", body: "s1234"});
  const parts = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${sent.etag}</ETag></Part>` +
    "</CompleteMultipartUpload>";
  await ask("complete", urls.completeUploadUrl, {method: "POST", body: parts});
  await fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
})();
</script>"""


@contextmanager
def portal_page(values: dict[str, str]) -> Iterator[tuple[str, queue.Queue[Any]]]:
    """A web server with one page; yields its origin and what the page reports."""
    reports: queue.Queue[Any] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = SCRIPT.replace("VALUES", json.dumps(values)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: the reports say all."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", reports
        finally:
            server.shutdown()
            thread.join()


def visited(url: str, folder: Path, reports: queue.Queue[Any]) -> Any:
    """What the page reports after a browser has opened it."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder}"]
    with (folder.parent / "chromium.log").open("wb") as log:
        browser = subprocess.Popen([CHROMIUM, *options, url], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        return reports.get(timeout=50)
    finally:
        browser.terminate()
        browser.wait()


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        yield stack.enter_context(
            portal.wrap_async_context_manager(Centre(tmp_path_factory.mktemp("browser") / "centre"))
        )


def reported(centre: Centre, tmp_path: Path, *, allowed: bool) -> Any:
    """What a page sees of a gateway that allows its origin, or another one."""
    config = centre.write_config(tmp_path / "gateway.yaml")
    settings = yaml.safe_load(config.read_text())
    values = {"TOKEN": centre.token(USER), "FOLDER": str(centre.home(USER)), "SYSTEM": centre.system}
    with portal_page(values) as (origin, reports):
        settings["server"] = settings.get("server", {}) | {"cors_origins": [origin if allowed else origin + "0"]}
        config.write_text(yaml.safe_dump(settings))
        with gateway(config, tmp_path / "gateway.log") as server:
            values["API"] = server.url
            return visited(origin, tmp_path / "profile", reports)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_page_of_an_allowed_origin(centre: Centre, tmp_path: Path) -> None:
    seen = reported(centre, tmp_path, allowed=True)
    statuses = {"put": 201, "part": 206, "remove": 204, "missing": 404, "stranger": 401, "method": 405}
    more = {"create": 201, "append": 204, "start": 201, "send": 200, "complete": 200}
    assert {name: one.get("status") for name, one in seen.items()} == statuses | more, seen
    assert all(one["id"] for one in seen.values()), seen
    assert (seen["part"]["body"], seen["part"]["range"]) == ("el", "bytes 1-2/5")
    assert seen["put"]["etag"]
    assert seen["append"]["offset"] == "4"
    assert "No such file" in seen["missing"]["body"]
    assert (centre.home(USER) / "resumed").read_text() == "data"
    assert (centre.home(USER) / "sent").read_text() == "s1234"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_page_of_another_origin_reads_nothing(centre: Centre, tmp_path: Path) -> None:
    seen = reported(centre, tmp_path, allowed=False)
    assert all("failed" in one for one in seen.values()), seen
    assert not (centre.home(USER) / "of a browser").exists()
