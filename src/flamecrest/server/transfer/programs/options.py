"""The options of a job's program: JSON in a variable of the environment, which process lists do not show."""

from __future__ import annotations

import json
import os
from typing import Any

VARIABLE = "FLAMECREST_TRANSFER"


def read_options() -> dict[str, Any]:
    """Read the options, and remove them from the environment of programs that are started later."""
    options = json.loads(os.environ.pop(VARIABLE))
    return dict(options)
