"""Codes of wormholes: a number that the mailbox server sees, and a secret that it does not see."""

from __future__ import annotations

import re
import secrets
from typing import Final

from flamecrest.server.errors import Field, Invalid

# Proquints (D. S. Wilkerson, arXiv:0901.4016): each word has 16 bits and can be read aloud.
_CONSONANTS: Final = "bdfghjklmnprstvz"
_VOWELS: Final = "aiou"
_WORDS: Final = 3  # there is one guess for each code, so that 48 bits are plenty
_CODE: Final = re.compile(r"[0-9]{1,9}-[!-~]{1,200}", re.ASCII)  # what magic-wormhole accepts, in printable ASCII


def new_code() -> str:
    """A code of a random number, which others hardly use at the same time, and of three words."""
    words = "-".join(_proquint(secrets.randbits(16)) for _ in range(_WORDS))
    return f"{100_000 + secrets.randbelow(900_000)}-{words}"


def check_code(code: str | None) -> str:
    """The code of a sender. Raises Invalid."""
    if code is None or not _CODE.fullmatch(code):
        message = "must be a code that `wormhole send` prints, such as 7-crossword-clockwork"
        raise Invalid(f"`wormholeCode` {message}", fields=(Field("body", "wormholeCode", message),))
    return code


def _proquint(value: int) -> str:
    return (
        _CONSONANTS[value >> 12]
        + _VOWELS[value >> 10 & 3]
        + _CONSONANTS[value >> 6 & 15]
        + _VOWELS[value >> 4 & 3]
        + _CONSONANTS[value & 15]
    )
