"""The scripts of transfer jobs: accounts, directives, and paths that a script cannot contain."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flamecrest.server.errors import Invalid
from flamecrest.server.files.values import CompressOptions
from flamecrest.server.schedulers.values import JobSpec
from flamecrest.server.transfer.jobs.operations import SchedulerTransfers
from flamecrest.server.transfer.jobs.script import shell_words
from flamecrest.server.transfer.jobs.submission import TransferSubmitter
from tests.unit.transfer.names import HOSTILE, names

from .test_jobs import site_at

pytestmark = pytest.mark.anyio


def directives(spec: JobSpec) -> list[str]:
    """The directives that sbatch reads: those above the first command."""
    assert spec.script is not None
    found = []
    for line in spec.script.split("\n")[1:]:
        if line.strip() and not line.startswith("#"):
            break
        if line.startswith("#SBATCH"):
            found.append(line)
    return found


async def test_account_is_inserted_into_the_directives(tmp_path: Path) -> None:
    site = site_at(tmp_path, "#SBATCH --account={account}", "#SBATCH --constraint={x} --comment={0}{}%j")
    await site.transfers.rm("/none", site.deadline, account="proj.a_1-b+c")
    assert directives(site.spec()) == [
        "#SBATCH --account=proj.a_1-b+c",
        "#SBATCH --constraint={x} --comment={0}{}%j",
    ]
    assert site.spec().account is None


async def test_account_without_placeholder_is_passed_to_the_scheduler(tmp_path: Path) -> None:
    site = site_at(tmp_path, "#SBATCH --time=1")
    await site.transfers.rm("/none", site.deadline, account="proj")
    assert directives(site.spec()) == ["#SBATCH --time=1"]
    assert site.spec().account == "proj"


@pytest.mark.parametrize("account", [None, ""])
async def test_missing_account_is_refused(tmp_path: Path, account: str | None) -> None:
    site = site_at(tmp_path, "#SBATCH --account={account}")
    with pytest.raises(Invalid, match=r"^Account parameter is required on this system\.$") as caught:
        await site.transfers.rm("/none", site.deadline, account=account)
    assert [field.name for field in caught.value.fields] == ["account"]
    assert site.scheduler.specs == []


@pytest.mark.parametrize("place", ["#SBATCH --account={account}", "#SBATCH --time=1"])
@pytest.mark.parametrize(
    "account",
    ["a b", "a\n", "\n#SBATCH --uid=0", "$(id)", "a;b", "a'", 'a"', "ä", "a" * 65, "\0", "\ud800", "{account}", "a/b"],
)
async def test_invalid_account_is_refused(tmp_path: Path, place: str, account: str) -> None:
    site = site_at(tmp_path, place)
    with pytest.raises(Invalid, match="account") as caught:
        await site.transfers.rm("/none", site.deadline, account=account)
    assert [field.name for field in caught.value.fields] == ["account"]
    assert site.scheduler.specs == []


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_name_never_becomes_a_directive(tmp_path: Path, name: str) -> None:
    site = site_at(tmp_path, "#SBATCH --time=1")
    await site.transfers.mv(f"/none/{name}", f"/none/{name}", site.deadline, account=None)
    script = site.spec().script
    assert script is not None
    assert re.findall(r"^\s*#(?:SBATCH|PBS).*$", script, re.MULTILINE) == ["#SBATCH --time=1"]
    assert script.isascii()


async def test_no_default_work_dir(tmp_path: Path) -> None:
    site = site_at(tmp_path)
    transfers = SchedulerTransfers(TransferSubmitter(site.scheduler, "fireuser"), cluster="daint")
    with pytest.raises(Invalid, match="default_work_dir"):
        await transfers.rm("/none", site.deadline, account=None)
    assert site.scheduler.specs == []


@pytest.mark.parametrize("bad", ["/a\0b", "/a\ud800"])
async def test_impossible_paths_are_refused(tmp_path: Path, bad: str) -> None:
    site = site_at(tmp_path)
    transfers, deadline = site.transfers, site.deadline
    for job in (
        transfers.mv(bad, "/t", deadline, account=None),
        transfers.cp("/s", bad, deadline, account=None, dereference=False),
        transfers.rm(bad, deadline, account=None),
        transfers.extract("/s", bad, deadline, account=None, compression="gzip"),
        transfers.compress("/s", "/t", deadline, account=None, options=CompressOptions("gzip", pattern=bad)),
        transfers.compress("/s", "/./s/", deadline, account=None, options=CompressOptions("gzip")),
    ):
        with pytest.raises(Invalid):
            await job
    assert site.scheduler.specs == []


@settings(max_examples=20)
@given(
    st.lists(st.one_of(names, st.just(""), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
)
@example([bytes([byte]).decode("utf-8", "surrogateescape") for byte in range(1, 256)])
@example([bytes([byte, byte, 0x41]).decode("utf-8", "surrogateescape") for byte in range(1, 256)])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_shell_words_round_trip_through_bash(locale: str, values: list[str]) -> None:
    line = shell_words(*values)
    assert line.isascii()
    assert "\n" not in line
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True, env={"LC_ALL": locale}
    )
    expected = b"".join(value.encode("utf-8", "surrogateescape") + b"\0" for value in values or [""])
    assert done.stdout == expected
