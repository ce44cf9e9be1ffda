"""The bash script of a job that runs a program of this package. Its options are in the environment."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.files.remote.commands.archive import Script

from .assembly import assemble
from .options import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

# Older clusters have a python3 that is too old, and a newer one under its own name.
_FIND_PYTHON: Final = r"""python=
for one in "$1" python3 python3.{14,13,12,11,10,9,8,7} /usr/libexec/platform-python; do
    if [ -n "$one" ] && "$one" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 6))' 2>/dev/null; then
        python=$one
        break
    fi
done
[ -n "$python" ] || { echo 'This node has no Python 3.6 or later.'; exit 127; }
"""
_END: Final = "END_OF_PROGRAM"


def python_script(python: str | None, *modules: str) -> Script:
    """Run the program that consists of these modules, with `python` or the first one that the node has."""
    program = assemble(*modules)
    if f"\n{_END}\n" in program:
        raise ValueError("the program contains the line that ends it")
    return Script(f"{_FIND_PYTHON}exec \"$python\" -I -S - <<'{_END}'\n{program}{_END}\n", (python or "",))


def program_environment(path: str, options: Mapping[str, Any]) -> dict[str, str]:
    """The variables for a program: its options, and the path of the file as bytes."""
    encoded = base64.b64encode(os.fsencode(path)).decode()
    return {VARIABLE: json.dumps({"path": encoded, **options})}
