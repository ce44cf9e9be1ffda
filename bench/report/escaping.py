"""Escape text for HTML and Markdown. Some of it comes from logs and can contain anything."""

from __future__ import annotations

import re
from html import escape

_NOT_XML = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters XML excludes
_MARKUP = str.maketrans({"|": "\\|", "<": "&lt;", "`": "\\`", "[": "\\["})


def in_html(text: str) -> str:
    """Escape text for an element or an attribute of HTML."""
    return escape(_NOT_XML.sub("\ufffd", text))


def in_markdown(text: str) -> str:
    """Escape text for a cell of a Markdown table: one line without links, code, HTML and column separators."""
    return " ".join(_NOT_XML.sub("\ufffd", text).split()).translate(_MARKUP)
