"""The program of a job that sends or receives a file with magic-wormhole, whose command line it runs.

The code of the wormhole is in no argument list and in no log.
"""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import stat
import subprocess
import time
from contextlib import suppress
from typing import Any

from .environment import Environment
from .progress import Meter
from .replacing import Refused, Replacement, find_target
from .running import log, run

# Runs the command line in its process: so the code is no argument. The options come by standard input.
COMMAND_LINE = (
    "import json, os, sys; options = json.load(sys.stdin); sys.stdin = open(os.devnull); "
    "from wormhole.cli.cli import wormhole; wormhole.main(args=options, prog_name='wormhole')"
)
LOOK = 2.0  # seconds between two looks at how far the program is
BEGUN = ("Receiving file (", "Receiving (", "Sending (")  # what it prints when the other side is there
# what it prints before its last line, which does not say why it has failed
REASONS = (
    ("insufficient free space", "No space left on device: the file is larger than what is free there."),
    ("confirmation failed", "The code is not that of the other side. Begin again with a new code."),
)
UNSAID = ("On the other computer", "Received file written to", "Wormhole code is")  # of no use in a log


class Wormhole:
    """One file, by one wormhole."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.path = base64.b64decode(options["path"])
        self.file: Replacement | None = None
        self.received = b""
        self.reason = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = Environment(options)
        if options["receive"]:
            find_target(self.path)  # the job fails at once if it cannot write there
        elif not stat.S_ISREG(os.stat(self.path).st_mode):
            raise Refused("Not a regular file")

    def discard(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.file is not None:
            for left in (self.received, self.received + b".tmp"):
                self.file.remove(left)
            self.file.discard()
        self.environment.discard()

    def transfer(self) -> int:
        """Run the command line; the exit status."""
        self.environment.prepare("magic-wormhole", "wormhole.cli.cli", "wormhole")
        if self.options["receive"]:
            return self.receive()
        path = os.fsdecode(self.path)
        return self.run(["send", "--hide-progress", "--code", self.options["code"], path])

    def receive(self) -> int:
        """Receive to a temporary file, and put that in the place of the target."""
        self.file = Replacement(self.path, os.getcwdb(), temporary_name())
        self.file.create()
        self.received = os.path.join(os.path.dirname(self.file.path), temporary_name())
        os.umask(0o077)
        accept = ["receive", "--accept-file", "--hide-progress", "-o", os.fsdecode(self.received)]
        status = self.run([*accept, self.options["code"]])
        if status == 0:
            if not os.path.isfile(self.received):
                raise Refused("The sender has sent no file.")
            self.file.take_over(self.received)
            size = os.fstat(self.file.fd).st_size
            self.file.commit()
            self.file = None
            log(f"{size} bytes were received.")
        return status

    def run(self, arguments: list[str]) -> int:
        """Run the command line, and log what it prints, until it ends. Raises Refused if nobody comes in time."""
        options = self.options
        servers = ["--relay-url", options["mailbox"]] if options["mailbox"] else []
        servers += ["--transit-helper", options["relay"]] if options["relay"] else []
        settled = {"LC_ALL": "C.UTF-8", "WORMHOLE_QR": "0", "PYTHONUNBUFFERED": "1"}
        self.process = process = subprocess.Popen(
            [self.environment.python, "-c", COMMAND_LINE], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env={**os.environ, **settled, **self.environment.variables},
        )  # fmt: skip
        if process.stdin is None or process.stderr is None:
            raise RuntimeError("no pipes")
        with process.stdin as pipe:
            pipe.write(json.dumps([*servers, *arguments]).encode())
        log("Waiting for the other side.")
        self.follow(process.stderr.fileno(), time.monotonic() + options["wait_timeout"])
        status = process.wait()
        if status and self.reason:
            raise Refused(self.reason)
        return status

    def follow(self, pipe: int, deadline: float) -> None:
        """Log what the program prints."""
        begun, rest, meter = False, b"", Meter(0 if self.options["receive"] else os.stat(self.path).st_size)
        while True:
            left = 3600.0 if begun else deadline - time.monotonic()
            if left <= 0:
                raise Refused("Nobody has come in time.")
            if not select.select([pipe], [], [], min(left, LOOK))[0]:
                if begun:
                    meter.note(self.transferred())
                continue
            printed = os.read(pipe, 65536)
            if not printed:
                return
            *lines, rest = (rest + printed).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                begun = self.note(line.decode("utf-8", "replace")) or begun

    def transferred(self) -> int:
        """The bytes that the program has written so far, or has read of the file that it sends; 0: not known."""
        with suppress(OSError, ValueError, IndexError):
            if self.options["receive"]:
                return os.stat(self.received + b".tmp").st_size
            if self.process is not None:
                return position_in(self.process.pid, os.stat(self.path))
        return 0

    def note(self, line: str) -> bool:
        """Log a line of the program, without the code; whether it says that the transfer has begun."""
        if line.startswith("Receiving directory"):
            raise Refused("The sender offers a folder. Send one file, for example an archive.")
        self.reason = next((reason for words, reason in REASONS if words in line.lower()), self.reason)
        if line.strip() and self.options["code"] not in line and not line.startswith(UNSAID):
            log(line)
        return line.startswith(BEGUN)


def position_in(process: int, wanted: os.stat_result) -> int:
    """How far a process has read an open file. Raises OSError if that cannot be seen."""
    for fd in os.listdir(f"/proc/{process}/fd"):
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(f"/proc/{process}/fd/{fd}"), wanted):
                with open(f"/proc/{process}/fdinfo/{fd}") as lines:
                    return int(next(lines).split()[1])
    return 0


def temporary_name() -> bytes:
    """A new name for a temporary file."""
    return b".flamecrest-upload-" + base64.b16encode(os.urandom(8)).lower()


def transfer(_options: dict[str, Any], work: Wormhole) -> int:
    """Send or receive; the exit status."""
    return work.transfer()


def main() -> None:
    """Transfer the file that the environment describes."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    run(Wormhole, transfer)
