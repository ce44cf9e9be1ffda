"""From a request's target (RFC 9112, 3.2) to the path whose route is searched. Knows no route."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from starlette.types import Scope

_ORIGIN: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def normalize_path(scope: Scope) -> None:
    """Reduce a target in absolute form (`http://host/path`), which some servers pass on as it is, to its path.

    A slash at the end is removed, but `//` is not the front page.
    """
    target: bytes = scope.get("raw_path") or scope["path"].encode()
    origin = _ORIGIN.match(target)
    if origin is not None:
        without = b"*" if scope["method"] == "OPTIONS" else b"/"  # RFC 9112, 3.2.4
        scope["raw_path"] = target[origin.end() :] or without
        scope["path"] = unquote(scope["raw_path"].decode("ascii", "replace"))
    path = scope["path"]
    if path[-1:] == "/" and len(path) > 2 and not path.endswith("/liveness/"):
        scope["path"] = path[:-1]  # served, not redirected: a redirect can send the token to another host
