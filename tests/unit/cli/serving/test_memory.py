"""Freed memory is reused without page faults, and returned to the system once a minute."""

import ctypes
import subprocess
import sys

import pytest

RETURNED = """
import asyncio
from contextlib import suppress
from flamecrest.cli.serving.memory import keep_freed_memory, return_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

async def fallen(below):
    returning = asyncio.create_task(return_freed_memory(0.01))
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            while resident() > below:
                await asyncio.sleep(0.01)
    returning.cancel()

keep_freed_memory()
least = resident()
blocks = [bytes(2000) for _ in range(30_000)]  # 60 MB
most = resident()
kept = blocks[::20]
blocks.clear()
print(resident() - least > (most - least) * 0.8)
asyncio.run(fallen(least + (most - least) // 3))
print(resident() - least <= (most - least) // 3)
"""

AGAIN = """
import resource
from flamecrest.cli.serving.memory import keep_freed_memory
{told}

def taken():
    blocks = [bytearray(b"x") * 3_000_000 for _ in range(4)]
    return len(blocks)

taken()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    taken()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_freed_memory_is_kept():
    def pages(told: str) -> int:
        program = AGAIN.format(told=told)
        return int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)

    assert pages("") > 20 * pages("keep_freed_memory()")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_free_pages_between_blocks_that_stay_are_returned():
    """Both are true: the C library keeps them by itself, and returns them when it is told to."""
    said = subprocess.run([sys.executable, "-c", RETURNED], capture_output=True, check=True, text=True).stdout
    assert said.split() == ["True", "True"]
