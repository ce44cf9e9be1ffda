"""Drives aiida-firecrest against a gateway, in an AiiDA profile that lives as long as the process.

Run with the interpreter of .venv-aiida as `python -m tests.live.aiida.drive`. The variables FIRECREST_* say where the
gateway is and which empty folder of the cluster to work in. A line for each step; status 1 when one failed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from aiida import load_profile, orm
from aiida.cmdline.commands.cmd_verdi import verdi
from aiida.storage.sqlite_temp import SqliteTempBackend
from click.testing import CliRunner

from . import files, jobs, steps

LABEL = "live"


def command(*words: str) -> str:
    """Run a verdi command in this process, where the profile is."""
    done = CliRunner().invoke(verdi, list(words))
    if done.exit_code or "Failed" in done.output or "FAILED" in done.output:
        raise AssertionError(f"verdi {' '.join(words)} says:\n{done.output}") from done.exception
    return str(done.output)


def computer_is_configured(work: str) -> str:
    """Configure the computer with verdi; the client secret is given by its file."""
    computer = orm.Computer(LABEL, "localhost", "", "firecrest", "firecrest", f"{work}/run").store()
    computer.set_minimum_job_poll_interval(1)
    computer.set_default_mpiprocs_per_machine(1)
    options = {
        "--url": os.environ["FIRECREST_URL"],
        "--token-uri": os.environ["FIRECREST_TOKEN_URL"],
        "--client-id": os.environ["FIRECREST_CLIENT_ID"],
        "--client-secret": os.environ["FIRECREST_SECRET_FILE"],
        "--compute-resource": os.environ["FIRECREST_SYSTEM"],
        "--billing-account": os.environ["FIRECREST_ACCOUNT"],
        "--temp-directory": f"{work}/temp",
    }
    words = [word for pair in options.items() for word in pair]
    command("computer", "configure", "firecrest", LABEL, "--non-interactive", *words)
    return str(computer)


def computer_is_tested(_: str) -> str:
    return command("computer", "test", LABEL).strip().splitlines()[-1]


def at_work(work: str) -> list[str]:
    """Run all steps with the configured computer; returns the names of those that failed."""
    computer = orm.load_computer(LABEL)
    scheduler: Any = computer.get_scheduler()
    with computer.get_transport() as transport, tempfile.TemporaryDirectory() as local:
        scheduler.set_transport(transport)
        desk = files.Desk(transport, work, Path(local))
        office = jobs.Office(computer, scheduler, desk, os.environ["FIRECREST_ACCOUNT"])
        return steps.run(chosen(files.STEPS), desk) + steps.run(chosen(jobs.STEPS), office)


def chosen(every: list[steps.Step]) -> list[steps.Step]:
    """The steps that FIRECREST_STEPS names, separated by commas; all without it."""
    names = os.environ.get("FIRECREST_STEPS", "").split(",")
    return [step for step in every if names == [""] or steps.name_of(step) in names]


def main() -> int:
    """Run all steps and return the exit status."""
    load_profile(SqliteTempBackend.create_profile("live"), allow_switch=True)
    work = os.environ["FIRECREST_WORK"]
    failed = steps.run([computer_is_configured, computer_is_tested], work) or at_work(work)
    print(f"failed: {', '.join(failed)}" if failed else "all steps succeeded")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
