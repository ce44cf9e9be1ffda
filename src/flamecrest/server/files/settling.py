"""Waits until a file that was changed just now can be told from its next state by its ctime."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from flamecrest.server.files.values import CLOCK_STEP

if TYPE_CHECKING:
    from flamecrest.server.files.values import Stat


async def wait_until_settled(found: Stat) -> bool:
    """Wait until the step of the clock in which a file was changed has passed: then read its attributes again.

    Returns False, at once, if they identify the content already, or if a step of the clock is not enough.
    """
    wait = found.settles_in(time.time())
    if not 0 < wait <= CLOCK_STEP:
        return False
    await asyncio.sleep(wait)
    return True
