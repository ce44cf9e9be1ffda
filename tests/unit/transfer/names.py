"""File names that break careless programs, and trees of them as values that can be compared."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import strategies as st

HOSTILE = [
    "plain",
    "it's",
    'say "hi"',
    "$(touch pwned)",
    "`touch pwned`",
    "x'; touch pwned; '",
    "${HOME}",
    "two  spaces ",
    "-rf",
    "--checkpoint-action=exec=touch pwned",
    "*",
    "[a-z]?",
    "~",
    "a\nb",
    "a\n",
    "\n#SBATCH --account=other\n#",
    "tab\there",
    r"back\tslash\n\\",
    "\\",
    "R&D <x>",
    "%j %A",
    "{account}",
    "host:file",
    "!event",
    "#comment",
    "Files were successfully moved.",
    "üñï",
    "\udcff\udcfe",
    "\x01\x7f\x1b[31m",
    ";",
    "|",
    "&",
    "..x",
    "x" * 240,
]

# For tests that start programs for each name: the others are tried with the live tests.
FEW = ["it's", "$(touch pwned)`touch pwned`", "-rf", "a\n", "\n#SBATCH --account=other\n#", "\udcff\udcfe"]

names = st.one_of(
    st.sampled_from(HOSTILE),
    st.binary(min_size=1, max_size=40)
    .map(lambda data: data.replace(b"\0", b"\n").replace(b"/", b"\\"))
    .filter(lambda data: data not in {b".", b".."})
    .map(os.fsdecode),
    st.text(alphabet="\\nt'\"$`*?[]{}() -#!~\n\t", min_size=1, max_size=12),
)


def inside(folder: Path) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


Tree = dict[str, tuple[int, bytes | str]]


def grow(folder: Path, name: str, inner: str, *, content: bytes = b"content") -> Path:
    """A folder `name` with a file `inner`, the same again one level deeper, a link and an empty folder."""
    top = folder / name
    (top / "deep" / inner).mkdir(parents=True)
    (top / "deep" / inner / inner).write_bytes(content)
    (top / "deep" / inner / inner).chmod(0o640)
    (top / f"1{inner}"[:250]).write_bytes(b"")
    (top / "link").symlink_to(f"./{inner}")
    (top / "empty").mkdir()
    return top


def tree(top: Path) -> Tree:
    """All files at and below `top`: mode and content, or the target of a link, by relative path."""
    found: Tree = {}
    for path in [top, *top.rglob("*")]:
        mode = path.lstat().st_mode
        if path.is_symlink():
            found[str(path.relative_to(top))] = (mode, str(path.readlink()))
        else:
            found[str(path.relative_to(top))] = (mode, b"" if path.is_dir() else path.read_bytes())
    return found
