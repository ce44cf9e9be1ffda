"""A toy of magic-wormhole's command line: a wormhole is a folder, named after its code, in $TOY_WORMHOLES.

The other side puts `offer` there (a file, or a folder), or `accept`; what is in `fails` is printed by
one that fails. The toy notes its argument list in `arguments`.
"""

import os
import shutil
import sys
import time
from pathlib import Path


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class wormhole:  # noqa: N801 -- the real one's name
    @staticmethod
    def main(args: list[str], prog_name: str) -> None:
        assert prog_name == "wormhole"
        assert args[:4] == ["--relay-url", "ws://mailbox/v1", "--transit-helper", "tcp:relay:1"]
        command, rest = args[4], args[5:]
        code = rest[rest.index("--code") + 1] if command == "send" else rest[-1]
        place = Path(os.environ["TOY_WORMHOLES"], code)
        if not place.exists():
            say("ERROR: Mailbox is crowded")
            sys.exit(1)
        if (place / "fails").exists():
            say((place / "fails").read_text())
            sys.exit(1)
        (place / "arguments").write_bytes(Path("/proc/self/cmdline").read_bytes())
        if command == "send":
            say(f"Sending 3 Bytes file named {Path(rest[-1]).name!r}")
            say(f"Wormhole code is: {code}")
            say("On the other computer, please run:")
            say(f"wormhole receive {code}")
            wait_for(place / "accept")
            say("Sending (->tcp:192.0.2.1:1)..")
            shutil.copyfile(rest[-1], place / "arrived")
            return
        wait_for(place / "offer")
        offer, target = place / "offer", Path(rest[rest.index("-o") + 1])
        say(f"Receiving {'directory' if offer.is_dir() else 'file'} (3 Bytes) into: {target.name!r}")
        part = target.with_name(target.name + ".tmp")
        part.write_bytes(b"")
        if (place / "stall").exists():
            wait_for(place / "go-on")
        part.write_bytes(offer.read_bytes())
        part.rename(target)
        say(f"Received file written to: {target}")


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)
