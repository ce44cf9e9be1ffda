"""MkDocs hook: fail when a page would load something from another host, which closed networks cannot reach."""

from __future__ import annotations

import re
from typing import Any, Final

from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

LOADED: Final = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)")


def on_post_page(output: str, *, page: Page, **_: Any) -> str:
    """Look at a finished page; links that a reader may follow are allowed."""
    found = LOADED.findall(output)
    if found:
        message = f"{page.file.src_uri} loads from other hosts: {', '.join(sorted(set(found)))}"
        raise PluginError(message)
    return output
