"""ToyPbs: creates the toy PBS in a directory."""

from __future__ import annotations

from pathlib import Path

from flamecrest.sandbox import executables

from . import program


class ToyPbs:
    """A PBS for the users of a sandbox, in the directory `<root>/pbs`."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "pbs"
        self.bin_dir = self.folder / "bin"

    def start(self) -> None:
        """Write the executables."""
        self.bin_dir.mkdir(parents=True, exist_ok=True)
        for name in program.PROGRAMS:
            executables.write_program(self.bin_dir / name, program.__name__, name, str(self.folder))
