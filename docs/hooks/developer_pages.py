"""MkDocs hook: fill the developers' pages with the map of ARCHITECTURE.md, functions of the source, and recorded walks.

Links to files outside of docs work where the source is read, and become their text on the site.

Walks need a sandbox and some seconds. With FLAMECREST_DOCS=quick the pages name the command instead.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
MAP: Final = "<!-- the table of ARCHITECTURE.md -->"
HEADING: Final = "## Where to change what\n"
SOURCE: Final = re.compile(r"<!-- source: (?P<file>\S+) (?P<name>\w+) -->")
OUTSIDE: Final = re.compile(r"\[(?P<text>[^\]]+)\]\((?:\.\./)+deploy/[^)]*\)")
FLOWS: Final = ("stat", "submit", "upload")


def table() -> str:
    """The table below the heading of the map."""
    lines = (ROOT / "ARCHITECTURE.md").read_text("utf-8").partition(HEADING)[2].splitlines()
    rows = [line for line in lines if line.startswith("|")]
    if not rows:
        message = f"ARCHITECTURE.md has no table below {HEADING!r}"
        raise ValueError(message)
    return "\n".join(rows)


def function(found: re.Match[str]) -> str:
    """The source of a function, by its file below src/flamecrest and its name."""
    source = (ROOT / "src" / "flamecrest" / found["file"]).read_text("utf-8")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    one = next(node for node in ast.parse(source).body if isinstance(node, kinds) and node.name == found["name"])
    first = min([one.lineno, *(decorator.lineno for decorator in one.decorator_list)])
    return "\n".join(("```python", *source.splitlines()[first - 1 : one.end_lineno], "```"))


@functools.cache
def walks() -> dict[str, str]:
    """The walk of each flow, recorded now."""
    if os.environ.get("FLAMECREST_DOCS") == "quick":
        return {flow: f"(not recorded in this build: scripts/walk {flow})" for flow in FLOWS}
    return asyncio.run(_record())


async def _record() -> dict[str, str]:
    from tests import walk  # noqa: PLC0415 -- starts a sandbox: not for quick builds

    with tempfile.TemporaryDirectory(prefix="flamecrest-walk-") as folder:
        async with walk.sandbox_client(Path(folder)) as (client, centre):
            return {flow: str(await walk.measure(client, centre, flow)) for flow in FLOWS}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put tables and walks where a page asks for them."""
    if MAP in markdown:
        markdown = markdown.replace(MAP, table())
    markdown = OUTSIDE.sub(r"\g<text>", SOURCE.sub(function, markdown))
    for flow in FLOWS:
        mark = f"<!-- walk: {flow} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, f"```{{ .text .walk }}\n{walks()[flow]}\n```")
    return markdown
