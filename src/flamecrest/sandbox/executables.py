"""Executable files that run a Python function and start fast.

They use the running interpreter without site packages, and never look for garbage.
"""

from __future__ import annotations

import sys
from pathlib import Path

import flamecrest

_LONGEST_SHEBANG = 120
_CODE = """\
import gc, sys
gc.disable()
sys.path.insert(0, {source!r})
sys.argv[1:1] = {arguments!r}
from {module} import main
sys.exit(main())
"""


def write_program(path: Path, module: str, *arguments: str) -> None:
    """Write an executable that calls main() of a module with `arguments` before its own in sys.argv."""
    source = str(Path(flamecrest.__file__).parent.parent)
    path.write_text(_first_line() + _CODE.format(source=source, arguments=list(arguments), module=module))
    path.chmod(0o755)


def _first_line() -> str:
    line = f"#!{sys.executable} -IS\n"
    if " " not in sys.executable and len(line) < _LONGEST_SHEBANG:
        return line
    # The shell executes the second line, which starts Python. For Python the line is a string.
    return f"#!/bin/sh\n'''exec' \"{sys.executable}\" -IS \"$0\" \"$@\"\n'''\n"
