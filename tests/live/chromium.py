"""Chromium without a window, controlled by the DevTools protocol: enough of it to use a page as a person does."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium")
SECONDS = 60.0  # for anything that a page is to do
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0")
_MAX_MESSAGE = 32 * 1024 * 1024  # bytes of a screenshot


@dataclass
class Page:
    """One tab."""

    connection: ClientConnection
    _numbers: Iterator[int] = field(default_factory=count)

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol (https://chromedevtools.github.io/devtools-protocol/)."""
        number = next(self._numbers)
        self.connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.connection.recv(timeout=SECONDS))
            if message.get("id") == number:
                return message.get("result", {"error": message.get("error")})

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript, evaluated as if a person had clicked; None if it has none."""
        answer = self.call("Runtime.evaluate", expression=script, userGesture=True, returnByValue=True)
        return answer.get("result", {}).get("value")

    def wait(self, script: str) -> Any:
        """The value of an expression once it is true. Raises AssertionError."""
        until = time.monotonic() + SECONDS
        while not (found := self.run(script)):
            assert time.monotonic() < until, (
                f"not true: {script}; the page: {self.run('document.body.innerText')[:4000]}"
            )
            time.sleep(0.05)
        return found

    def click(self, selector: str) -> None:
        """Click on the first element that the selector finds, once there is one."""
        self.wait(f"(e => e && (e.click(), true))(document.querySelector({json.dumps(selector)}))")

    def screenshot(self, file: Path) -> None:
        """Write what the page looks like as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@dataclass(frozen=True)
class Browser:
    """A running browser: the address at which it is controlled, and what ends with it."""

    url: str
    stack: ExitStack

    def page(self, address: str) -> Page:
        """The tab that shows an address which begins so, once there is one. Raises AssertionError."""
        until = time.monotonic() + SECONDS
        while True:
            targets = httpx.get(f"{self.url}/json/list", trust_env=False).json()
            for target in targets:
                if target["type"] == "page" and target["url"].startswith(address):
                    socket = connect(target["webSocketDebuggerUrl"], max_size=_MAX_MESSAGE, proxy=None)
                    return Page(self.stack.enter_context(socket))
            assert time.monotonic() < until, f"no page shows {address}: {targets}"
            time.sleep(0.05)


@contextmanager
def browser(folder: Path, address: str) -> Iterator[Browser]:
    """A browser that opens an address. `folder` gets its profile and its log."""
    assert CHROMIUM is not None
    log = folder / "chromium.log"
    with log.open("wb") as out:
        command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", address]
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + SECONDS
        while not (found := re.search(r"DevTools listening on ws://([^/]+)/", log.read_text("utf-8", "replace"))):
            assert process.poll() is None, log.read_text("utf-8", "replace")
            assert time.monotonic() < until, log.read_text("utf-8", "replace")
            time.sleep(0.05)
        with ExitStack() as stack:
            yield Browser(f"http://{found[1]}", stack)
    finally:
        process.terminate()
        process.wait()
