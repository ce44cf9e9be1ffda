"""What `flamecrest demo` prints."""

from __future__ import annotations

import contextlib
import json
import shlex
import sysconfig
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

if TYPE_CHECKING:
    from flamecrest.sandbox.centre import Centre

USER = "fireuser"
# As docs/users/index.md has it: other users can read command lines, so the token is in a file.
RC = (
    r"""(umask 077; printf 'silent\nshow-error\nfail-with-body\nheader = "Authorization: Bearer %s"\n' "$TOKEN" > rc)"""
)


class DemoError(Exception):
    """A step of the demo failed."""


class DemoOutput:
    """Prints the progress: coloured on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._done = "✓" if "utf" in self.console.encoding else "*"

    def title(self, text: str) -> None:
        self.console.print(Text(text, style="bold"))

    def step(self, name: str, seconds: float | None, detail: str) -> None:
        took = "" if seconds is None else f"{1000 * seconds:,.0f} ms"
        line = Text.assemble(
            (f" {self._done} ", "bold green"), (f"{name:<10}", "bold"), (f"{took:>10}  ", "cyan"), detail
        )
        self.console.print(line, soft_wrap=True)

    def output(self, title: str, text: str) -> None:
        if self.console.is_terminal:
            self.console.print(Panel(Text(text.rstrip("\n")), title=escape(title), expand=False, border_style="dim"))
        else:
            for line in text.splitlines():
                self.console.print(Text(f"   | {line}"), soft_wrap=True)

    def note(self, text: str) -> None:
        self.console.print(Text(f"   {text}", style="dim"), soft_wrap=True)

    def waiting(self, what: str) -> contextlib.AbstractContextManager[Any]:
        """A spinner on a terminal."""
        return self.console.status(what) if self.console.is_terminal else contextlib.nullcontext()

    @staticmethod
    def progress(status: Any, what: str, share: float) -> None:
        """Show the progress beside the spinner, if there is one."""
        if status is not None:
            status.update(f"{what}: {share:.0%}")

    def instructions(self, centre: Centre, url: str, metrics: str) -> None:
        """Print the URL, the variables of the documentation's examples, curl's file, and four commands to try."""
        work = str(centre.home(USER))
        ask = f"curl -K rc '{url}"
        job = {"name": "mine", "workingDirectory": work, "script": "#!/bin/bash\nhostname; date\n"}
        body = shlex.quote(json.dumps({"job": job}))
        secret = shlex.quote(centre.client_secret(USER))
        client = f"export CLIENT_ID={USER} CLIENT_SECRET={secret} TOKEN_URL={centre.issuer.token_url}"
        lines = (
            f"export API={url} SYSTEM={centre.system} WORK={shlex.quote(work)} TOKEN={centre.token(USER)}",
            client,
            RC,
            f"{ask}/status/systems'",
            f"{ask}/filesystem/{centre.system}/ops/ls?path={work}&showHidden=true'",
            f"{ask}/compute/{centre.system}/jobs' -H 'Content-Type: application/json' -d {body}",
            f"{shlex.quote(sysconfig.get_path('scripts'))}/flamecrest top {metrics}",
        )
        self.console.print()
        self.console.print(Text.assemble("The gateway runs at ", (url, "bold"), ", its API documentation at /docs."))
        self.console.print(
            "Try it in another terminal. The first line sets the variables of the examples in docs/users, the second "
            "those with which a program gets a token; the third writes the token into a file for curl. The last line "
            "shows what the gateway does, until you press q:",
            soft_wrap=True,
        )
        for line in lines:
            self.console.print(Text(line), soft_wrap=True)
        self.console.print()
        self.console.print(Text("Press Ctrl-C to stop.", style="dim"))

    def end(self) -> None:
        """Print the last line of `--once`, when everything is stopped and removed."""
        self.console.print("All steps succeeded. The centre is stopped, and its files are removed.")
