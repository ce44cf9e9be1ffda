"""JSON on the wire: any value as bytes."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_SURROGATE = re.compile("[\ud800-\udfff]")


def dumps(data: Any) -> bytes:
    """JSON of anything: lone surrogates and numbers that do not fit are written as well as can be."""
    try:
        return orjson.dumps(data)
    except TypeError:
        text = json.dumps(data, ensure_ascii=False, default=str)
        return _SURROGATE.sub("\ufffd", text).encode()
