"""Text as it may stand in HTML, SVG and Markdown: some of it comes from logs, where anything can be."""

from __future__ import annotations

import re
from html import escape

_UNWRITABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)  # what XML has no way to say
_MARKUP = str.maketrans({"|": "\\|", "<": "&lt;", "`": "\\`", "[": "\\["})


def in_html(text: str) -> str:
    """The text as it is, in HTML or SVG, in an attribute too."""
    return escape(_UNWRITABLE.sub("\ufffd", text))


def in_markdown(text: str) -> str:
    """The text on one line, without links, code, HTML and columns of its own."""
    return " ".join(_UNWRITABLE.sub("\ufffd", text).split()).translate(_MARKUP)
