"""Find a Python interpreter that has a package, or make an environment with it in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from .replacing import Refused
from .running import log

SHOWN = 20  # lines of pip's output that are logged when it fails


class Environment:
    """`prepare` sets `python`, which then has the package. `discard` removes what was made for it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.python = ""
        self.folder: str | None = None
        self.variables: dict[str, str] = {}

    def prepare(self, package: str, module: str, command: str) -> None:
        """Find or install a package, with a module of it and its command. Raises Refused."""
        options = self.options
        for python in dict.fromkeys([options["python"], sys.executable, "python3", interpreter_of(command)]):
            if python and has_module(python, module):
                self.python = python
                return
        if not options["install"]:
            raise Refused(f"{package} is not installed on this node.")
        self.python = options["python"] or sys.executable
        self.install(package, options["index"])

    def install(self, package: str, index: str | None) -> None:
        """Install the package in a virtual environment, or with pip alone if there is no venv."""
        log(f"Installing {package} in a temporary folder.")
        self.folder = tempfile.mkdtemp(prefix="flamecrest-")
        environment = {**os.environ, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1"}
        if index:
            environment["PIP_INDEX_URL"] = index  # it may contain a password: no argument
        made = os.path.join(self.folder, "environment")
        pip = [self.python, "-m", "pip", "install", "-q"]
        if subprocess.call([self.python, "-m", "venv", made], **quiet()) == 0:
            self.python = os.path.join(made, "bin", "python")
            pip = [self.python, "-m", "pip", "install", "-q"]
        else:
            pip += ["--target", made]
            self.variables["PYTHONPATH"] = made
        done = subprocess.run([*pip, package], env=environment, check=False, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        if done.returncode != 0:
            for line in done.stdout.decode("utf-8", "replace").splitlines()[-SHOWN:]:
                log(line if not index else line.replace(index, "(index)"))
            raise Refused(f"{package} could not be installed.")

    def discard(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def quiet() -> dict[str, Any]:
    """Arguments for a program without input and output."""
    return dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)


def has_module(python: str, module: str) -> bool:
    """Whether an interpreter can import a module."""
    try:
        return subprocess.call([python, "-c", f"import {module}"], **quiet()) == 0
    except OSError:
        return False


def interpreter_of(command: str) -> str | None:
    """The interpreter in the first line of a script on PATH."""
    path = shutil.which(command)
    if path is None:
        return None
    with open(path, "rb") as file:
        words = file.readline(4096).decode("utf-8", "replace").split()
    if not words or not words[0].startswith("#!"):
        return None
    return words[1] if words[0].endswith("/env") and len(words) > 1 else words[0][2:]
