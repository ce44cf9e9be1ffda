"""Slurm's trackable resources in text: `cpu=2,mem=4G,node=1,gres/gpu=2,gres/gpu:a100=2`. No I/O.

Source: https://slurm.schedmd.com/tres.html. Sizes are MiB if they have no unit.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from .fields import REMEMBERED

_AMOUNT: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([KMGTPE]?)", re.ASCII)
_MEBIBYTES: Final = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3, "E": 1024.0**4}
_GPU: Final = "gres/gpu"


class JobResources(NamedTuple):
    """CPUs, memory (MiB) and GPUs of a job on all nodes; None where Slurm does not tell."""

    cpus: int | None = None
    memory: int | None = None
    gpus: int | None = None


@lru_cache(REMEMBERED)
def parse_tres(text: str) -> JobResources:
    """The resources in a list. GPUs are counted once, though Slurm lists them with and without their type."""
    found = dict(entry.partition("=")[::2] for entry in text.split(",") if "=" in entry)
    typed = [count for name, value in found.items() if name.startswith(f"{_GPU}:") and (count := _count(value))]
    gpus = _count(found.get(_GPU, "")) or sum(typed) or None
    return JobResources(_count(found.get("cpu", "")), _mebibytes(found.get("mem", "")), gpus)


def _count(value: str) -> int | None:
    return int(value) if value.isdecimal() and value.isascii() and len(value) <= 18 else None


def _mebibytes(value: str) -> int | None:
    found = _AMOUNT.fullmatch(value)
    return None if found is None else int(float(found[1]) * _MEBIBYTES[found[2]])
