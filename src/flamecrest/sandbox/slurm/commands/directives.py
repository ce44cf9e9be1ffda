"""The input of sbatch: its options, the script, and the #SBATCH lines in it."""

# pathlib takes half as long to import as all other modules together.
# ruff: noqa: PTH100, PTH119, PTH123
from __future__ import annotations

import os
import sys

from flamecrest.sandbox.slurm.formats import CommandFailedError, fail
from flamecrest.sandbox.slurm.options import MAYBE, NO, YES, Options

_FLAGS = (
    "contiguous help hold ignore-pbs no-requeue overcommit oversubscribe parsable quiet reboot requeue spread-job "
    "test-only usage use-min-nodes verbose version wait"
)
_MAYBE = "exclusive get-user-env nice no-kill propagate"
_VALUES = (
    "account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container "
    "core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution error "
    "exclude export export-file extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task "
    "gres gres-flags hint input job-name kill-on-invalid-dep licenses mail-type mail-user mcs-label mem mem-bind "
    "mem-per-cpu mem-per-gpu mincpus network nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu "
    "ntasks-per-node ntasks-per-socket open-mode output partition power prefer priority profile qos reservation signal "
    "sockets-per-node switches thread-spec threads-per-core time time-min tmp uid wait-all-nodes wckey wrap"
)
OPTIONS = Options(
    "sbatch",
    {
        **dict.fromkeys(_FLAGS.split(), NO),
        **dict.fromkeys(_MAYBE.split(), MAYBE),
        **dict.fromkeys(_VALUES.split(), YES),
    },
    {
        "A": "account", "a": "array", "b": "begin", "B": "extra-node-info", "c": "cpus-per-task", "C": "constraint",
        "d": "dependency", "D": "chdir", "e": "error", "F": "nodefile", "G": "gpus", "h": "help", "H": "hold",
        "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses", "m": "distribution", "M": "clusters",
        "n": "ntasks", "N": "nodes", "o": "output", "O": "overcommit", "p": "partition", "q": "qos", "Q": "quiet",
        "s": "oversubscribe", "S": "core-spec", "t": "time", "v": "verbose", "V": "version", "w": "nodelist",
        "W": "wait", "x": "exclude",
    },
    status=255,
)  # fmt: skip


def read_script(given: dict[str, str], rest: list[str]) -> tuple[bytes, str, str]:
    """Read the script. Returns it, its path ("" if it has none), and the default name of the job."""
    if "wrap" in given:
        if rest:
            raise CommandFailedError("sbatch: fatal: Script arguments not permitted with --wrap option")
        wrapped = os.fsencode(f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{given['wrap']}\n")
        return wrapped, "", "wrap"
    if not rest:
        return _checked(sys.stdin.buffer.read()), "", "sbatch"
    path = os.path.abspath(rest[0])
    try:
        with open(path, "rb") as file:
            return _checked(file.read()), path, os.path.basename(path)
    except IsADirectoryError:
        return _checked(b""), path, ""
    except OSError:
        fail("sbatch", f"Unable to open file {rest[0]}")


def _checked(script: bytes) -> bytes:
    if not script:
        fail("sbatch", "Batch script is empty!")
    if not script.strip():
        fail("sbatch", "Batch script contains only whitespace!")
    if not script.startswith(b"#!"):
        raise CommandFailedError(
            "sbatch: error: This does not look like a batch script.  The first",
            "sbatch: error: line must start with #! followed by the path to an interpreter.",
            "sbatch: error: For instance: #!/bin/sh",
        )
    if b"\0" in script:
        raise CommandFailedError(
            "sbatch: error: The Slurm controller does not allow scripts that",
            "sbatch: error: contain a NULL character '\\0'.",
        )
    if b"\r\n" in script:
        raise CommandFailedError(
            "sbatch: error: Batch script contains DOS line breaks (\\r\\n)",
            "sbatch: error: instead of expected UNIX line breaks (\\n).",
        )
    return script


def directives(script: bytes) -> dict[str, str]:
    """The #SBATCH options at the top of the script, before the first line that is not a comment."""
    found: dict[str, str] = {}
    for line in script.split(b"\n"):
        if line.strip() and not line.startswith(b"#"):
            break
        if line.startswith(b"#SBATCH"):
            options, _ = OPTIONS.read(_split(os.fsdecode(line[7:])))
            found |= options
    return found


def _split(line: str) -> list[str]:
    """Split a directive into words: quotes keep spaces, and a single # begins a comment."""
    words: list[str] = []
    word, quote, inside = "", "", False
    escaped = False
    for letter in line:
        if escaped:
            word, escaped = word + letter, False
        elif letter == "\\":
            escaped = inside = True
        elif quote:
            if letter == quote:
                quote = ""
            else:
                word += letter
        elif letter in "'\"":
            quote, inside = letter, True
        elif letter.isspace():
            if inside or word:
                words.append(word)
            word, inside = "", False
        elif letter == "#" and not word and not inside:
            break
        else:
            word += letter
    return [*words, word] if word or inside else words
