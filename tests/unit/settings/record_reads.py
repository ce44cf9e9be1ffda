"""Program: start, serve, use and stop a gateway, and print as JSON which modules read which setting.

Run in a process of its own: it replaces the classes of the settings' instances by recording subclasses.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from flamecrest.cli import connect, serve
from flamecrest.cli.serving import run as serving
from flamecrest.cli.workers.serving import times_of
from flamecrest.server.app import create_app
from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.errors import Unsupported
from flamecrest.server.settings import Section, load

reads: dict[str, set[str]] = defaultdict(set)
PASSED = ("flamecrest.server.settings", "pydantic", "__main__")  # a method of a section reads for its caller


def recording(base: type[Section]) -> type[Section]:
    """A subclass that records the module of every read of a field."""

    def read(self: Any, name: str) -> Any:
        if name in base.model_fields:
            frame: FrameType | None = sys._getframe(1)
            while frame is not None and frame.f_globals.get("__name__", "").startswith(PASSED):
                frame = frame.f_back
            if frame is not None:
                reads[f"{base.__name__}.{name}"].add(frame.f_globals["__name__"])
        return object.__getattribute__(self, name)

    return type(base.__name__, (base,), {"__getattribute__": read, "__module__": base.__module__})


def record(value: Any) -> None:
    """Record the reads of all sections in a value from now on."""
    if isinstance(value, Section):
        fields = [getattr(value, name) for name in type(value).model_fields]
        object.__setattr__(value, "__class__", recording(type(value)))
        for item in fields:
            record(item)
    elif isinstance(value, Mapping | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            record(item)


settings = load(Path(sys.argv[1]), {})
record(settings)
app = create_app(settings)
app.openapi()
host, port = serve.address_of(settings, None, None)
assert (host, port) == ("127.0.0.1", 18000)
assert serve.workers_of(settings, None) == 2
assert times_of(settings.server)[1] == 60


def ready() -> None:
    """Ask for the description and the transfers of every cluster as requests do, then stop the server."""
    for cluster in app.gateway.clusters.values():
        cluster.describe()
        with suppress(Unsupported):  # without a place for records
            cluster.allowed_before(Identity("alice"), Verb.TRANSFER).transfers(jobs=False)
    os.kill(os.getpid(), signal.SIGTERM)


assert settings.metrics is not None
assert serve.metrics_address(settings.metrics) == ("127.0.0.1", 19464)
with serve.listen(host, 0) as listener, serve.listen(host, 0) as metrics:
    assert serving.run(app, listener, settings, ready, metrics=metrics)
list(connect.url_checks(settings))
print(json.dumps({name: sorted(modules) for name, modules in reads.items()}))
