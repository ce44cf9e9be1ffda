"""Freed memory is reused without page faults."""

import ctypes
import subprocess
import sys

import pytest

AGAIN = """
import resource
from flamecrest.cli.memory import keep_freed_memory
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
