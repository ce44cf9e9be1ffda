"""The OpenAPI document of the application, made once for all tests of a process because it takes half a second."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any

from flamecrest.server.app import build_app
from flamecrest.server.cluster import Gateway


def no_gateway() -> AbstractAsyncContextManager[Gateway]:
    raise AssertionError("a document needs no gateway")


@cache
def openapi() -> dict[str, Any]:
    """The document. Tests must not change it."""
    return build_app(no_gateway).openapi()
