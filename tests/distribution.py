"""What a wheel and a source archive hold, compared with what they may hold: `python -m tests.distribution DIR`."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = frozenset((".py", ".pl", ".typed"))
METADATA: Final = re.compile(r"flamecrest-[^/]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE)")
SDIST: Final = re.compile(
    r"src/flamecrest/.+\.(py|pl|typed)|docs/.+\.(md|py|css|svg)|[A-Z]+\.md|LICENSE|mkdocs\.yml|pyproject\.toml"
    r"|PKG-INFO|\.gitignore"
)


def package_files() -> set[str]:
    """The files of the package in this checkout, relative to src."""
    source = ROOT / "src"
    return {
        path.relative_to(source).as_posix()
        for path in (source / "flamecrest").rglob("*")
        if path.is_file() and path.suffix in SOURCES
    }


def wheel_faults(path: Path) -> list[str]:
    """What a wheel lacks, and what it holds besides the package and its metadata."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    wanted = package_files()
    return [
        *(f"{path.name} lacks {name}" for name in sorted(wanted - names)),
        *(f"{path.name} holds {name}" for name in sorted(names - wanted) if not METADATA.fullmatch(name)),
    ]


def sdist_faults(path: Path) -> list[str]:
    """The same of a source archive."""
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    wanted = {f"src/{name}" for name in package_files()} | {"pyproject.toml", "README.md", "LICENSE"}
    return [
        *(f"{path.name} lacks {name}" for name in sorted(wanted - names)),
        *(f"{path.name} holds {name}" for name in sorted(names) if not SDIST.fullmatch(name)),
    ]


def faults(folder: Path) -> list[str]:
    """All that is wrong with the one wheel and the one source archive in a folder."""
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return wheel_faults(wheel) + sdist_faults(sdist)


def main(arguments: list[str]) -> None:
    """Print what is wrong and end with 1, or name what was checked."""
    (folder,) = arguments
    found = faults(Path(folder))
    if found:
        raise SystemExit("\n".join(found))
    sys.stdout.write(
        f"distribution: wheel and sdist hold {len(package_files())} files of the package, as they should\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
