"""Transfer jobs, submitted to a batch system that runs them with bash on real files."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import example, given, settings

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Field, Invalid
from flamecrest.server.files.remote.commands.archive import Script
from flamecrest.server.files.values import CompressOptions
from flamecrest.server.schedulers.port import Submitter
from flamecrest.server.schedulers.values import JobSpec
from flamecrest.server.transfer.jobs.log_ids import LogIds
from flamecrest.server.transfer.jobs.operations import SchedulerTransfers
from flamecrest.server.transfer.jobs.script import TransferJob, job_script
from flamecrest.server.transfer.jobs.submission import TransferSubmitter
from flamecrest.server.transfer.port import (
    S3Directives,
    StartedTransfer,
    SubmittedTransfer,
    TransferMethod,
    TransferRequest,
    Transfers,
)
from tests.unit.transfer.local_bash import LocalBash
from tests.unit.transfer.names import FEW, HOSTILE, grow, inside, names, tree

pytestmark = pytest.mark.anyio

SUCCESS = "Files were successfully"


@dataclass
class Site:
    """A cluster with one user: its folder, its scheduler and its transfers."""

    root: Path
    scheduler: LocalBash
    transfers: Transfers

    @property
    def deadline(self) -> Deadline:
        return Deadline.after(40)

    def spec(self) -> JobSpec:
        return self.scheduler.specs[-1]

    def status(self, ticket: SubmittedTransfer) -> int:
        return self.scheduler.statuses[ticket.job_id]

    def worked(self, ticket: SubmittedTransfer, done: str) -> None:
        """Assert that the job succeeded, by exit status and by the line that clients look for."""
        errors = Path(ticket.error_log).read_text(errors="replace")
        assert self.status(ticket) == 0, errors
        assert f"{SUCCESS} {done}.\n" in Path(ticket.output_log).read_text()
        assert errors == ""

    def failed(self, ticket: SubmittedTransfer, *reasons: str, status: int = 1) -> None:
        """Assert that the job failed, by exit status and by its logs, with these reasons."""
        errors = Path(ticket.error_log).read_text(errors="replace")
        assert self.status(ticket) == status
        assert SUCCESS not in Path(ticket.output_log).read_text()
        assert f"files, exit status {status}\n" in errors
        for reason in reasons:
            assert reason in errors


def site_at(root: Path, *directives: str, user: int | None = None) -> Site:
    for folder in ("fireuser", "data", "spool"):
        (root / folder).mkdir()
        if user is not None:
            os.chown(root / folder, user, -1)
    scheduler = LocalBash(root / "spool", user)
    port: Submitter = scheduler
    transfers = SchedulerTransfers(
        TransferSubmitter(port, "fireuser", directives=directives, work_root=str(root)), cluster="daint"
    )
    return Site(root, scheduler, transfers)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_at(tmp_path)


async def test_working_directory_and_logs(tmp_path: Path) -> None:
    site = site_at(tmp_path)
    unique = UUID("eb69d52e-ed3e-435e-a666-48dfc80085c2")
    ids = LogIds(new_id=lambda: unique)
    submitter = TransferSubmitter(site.scheduler, "fireuser", work_root=f"{tmp_path}/", log_ids=ids)
    transfers = SchedulerTransfers(submitter, cluster="daint")
    (tmp_path / "data" / "a").write_text("a")
    ticket = await transfers.rm(str(tmp_path / "data" / "a"), site.deadline, account=None)
    folder = f"{tmp_path}/fireuser"
    assert ticket == SubmittedTransfer(
        "1",
        folder,
        f"{folder}/.f7t_file_handling_job_{unique}.log",
        f"{folder}/.f7t_file_handling_job_error_{unique}.log",
    )
    spec = site.spec()
    assert (spec.name, spec.working_directory, spec.account) == ("DeleteFiles", folder, None)
    assert (spec.standard_output, spec.standard_error) == (ticket.output_log, ticket.error_log)
    assert (spec.standard_input, spec.requeue) == (None, None)  # not every scheduler has them
    assert "/usr/bin" in spec.env["PATH"].split(":")
    assert "(id: 1)" in Path(ticket.output_log).read_text()
    site.worked(ticket, "deleted")


async def test_two_jobs_never_share_a_log(site: Site) -> None:
    first = await site.transfers.rm("/none", site.deadline, account=None)
    second = await site.transfers.rm("/none", site.deadline, account=None)
    assert len({first.output_log, first.error_log, second.output_log, second.error_log}) == 4


@settings(max_examples=5)
@given(top=names, inner=names, other=names)
@example(top="-rf", inner="--x", other="$(touch pwned)")
@example(top="\n#SBATCH --account=other\n", inner="it's", other="a\n")
@example(top="Files were successfully moved.", inner=r"a\tb", other="\udcff*")
async def test_every_job_accepts_any_name(top: str, inner: str, other: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        site = site_at(Path(temporary))
        for name in ("copies", "moved", "packed", "new"):
            (site.root / name).mkdir()
        source = grow(site.root / "data", top, inner)
        original = tree(source)
        copied, moved = site.root / "copies" / other, site.root / "moved" / other
        packed, unpacked = site.root / "packed" / other, site.root / "new" / other

        site.worked(
            await site.transfers.cp(str(source), str(copied), site.deadline, account=None, dereference=False),
            "copied",
        )
        assert tree(copied) == original
        site.worked(await site.transfers.mv(str(copied), str(moved), site.deadline, account=None), "moved")
        assert tree(moved) == original
        assert inside(site.root / "copies") == []
        site.worked(
            await site.transfers.compress(
                str(source),
                str(packed),
                site.deadline,
                account=None,
                options=CompressOptions("none"),
            ),
            "compressed",
        )
        site.worked(
            await site.transfers.extract(str(packed), str(unpacked), site.deadline, account=None, compression="none"),
            "extracted",
        )
        assert tree(unpacked / top) == original
        site.worked(await site.transfers.rm(str(moved), site.deadline, account=None), "deleted")
        assert inside(site.root / "moved") == []
        assert tree(source) == original
        assert not list(site.root.rglob("pwned"))


@pytest.mark.parametrize(
    "name", [*FEW, *(pytest.param(name, marks=pytest.mark.live) for name in HOSTILE if name not in FEW)]
)
async def test_missing_source_fails_for_any_name(site: Site, name: str) -> None:
    source, target = str(site.root / "data" / name), str(site.root / "data" / "target")
    none = "No such file or directory"
    transfers, deadline = site.transfers, site.deadline
    site.failed(await transfers.mv(source, target, deadline, account=None), none)
    site.failed(await transfers.cp(source, target, deadline, account=None, dereference=True), none)
    site.failed(await transfers.rm(source, deadline, account=None), none)
    site.failed(
        await transfers.compress(source, target, deadline, account=None, options=CompressOptions("xz", pattern=".*")),
        none,
    )
    site.failed(await transfers.extract(source, target, deadline, account=None, compression="gzip"), none)
    assert inside(site.root / "data") == []


async def test_target_folder_semantics_of_coreutils(site: Site) -> None:
    data = site.root / "data"
    (data / "a").write_text("a")
    (data / "folder").mkdir()
    site.worked(
        await site.transfers.cp(str(data / "a"), str(data / "folder"), site.deadline, account=None, dereference=False),
        "copied",
    )
    assert (data / "folder" / "a").read_text() == "a"
    (data / "b").write_text("b")
    site.worked(await site.transfers.mv(str(data / "b"), str(data / "folder"), site.deadline, account=None), "moved")
    assert inside(data / "folder") == ["a", "b"]


@pytest.mark.parametrize("dereference", [False, True])
async def test_copy_of_symlinks(site: Site, dereference: bool) -> None:
    data = site.root / "data"
    (data / "tree").mkdir()
    (data / "file").write_text("content")
    (data / "tree" / "link").symlink_to("../file")
    site.worked(
        await site.transfers.cp(
            str(data / "tree"), str(data / "copy"), site.deadline, account=None, dereference=dereference
        ),
        "copied",
    )
    assert (data / "copy" / "link").is_symlink() is not dereference
    assert (data / "copy" / "link").read_text() == "content"


async def test_copy_keeps_mode_and_mtime_and_replaces_read_only_files(home: Path, ordinary: int | None) -> None:
    site = site_at(home, user=ordinary)
    source, target = home / "data" / "a", home / "data" / "b"
    source.write_text("new")
    source.chmod(0o755)
    os.utime(source, (1_000_000_000, 1_000_000_000))
    target.write_text("old")
    target.chmod(0o400)
    site.worked(
        await site.transfers.cp(str(source), str(target), site.deadline, account=None, dereference=False),
        "copied",
    )
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o7777 == 0o755
    assert target.stat().st_mtime == 1_000_000_000


async def test_read_only_files_are_moved_and_removed_without_prompt(home: Path, ordinary: int | None) -> None:
    site = site_at(home, user=ordinary)
    for name in ("a", "b"):
        (home / "data" / name).write_text(name)
        (home / "data" / name).chmod(0o400)
    moved = await site.transfers.mv(str(home / "data" / "a"), str(home / "data" / "b"), site.deadline, account=None)
    site.worked(moved, "moved")
    assert (home / "data" / "b").read_text() == "a"
    site.worked(await site.transfers.rm(str(home / "data"), site.deadline, account=None), "deleted")
    assert not (home / "data").exists()


async def test_jobs_touch_nothing_behind_a_link(site: Site) -> None:
    home = site.root / "fireuser"
    for folder in ("real", "new/real", "into"):
        (home / folder).mkdir(parents=True)
    (home / "real" / "kept").write_text("kept")
    (home / "new" / "kept").write_text("new")
    (home / "link").symlink_to("real")
    ticket = await site.transfers.rm(f"{home}/link/", site.deadline, account=None)
    assert site.status(ticket) == 1
    (home / "into" / "new").mkdir()
    (home / "into" / "new" / "kept").symlink_to(home / "real" / "kept")
    ticket = await site.transfers.cp(f"{home}/new", f"{home}/into", site.deadline, account=None, dereference=False)
    site.worked(ticket, "copied")
    assert (home / "into" / "new" / "kept").read_text() == "new"
    assert (home / "real" / "kept").read_text() == "kept"


async def test_leading_dash_is_not_an_option(site: Site) -> None:
    folder = site.root / "fireuser"  # where the jobs run; the HTTP side lets absolute paths through only
    (folder / "-i").write_text("x")
    ticket = await site.transfers.cp("-i", "-n", site.deadline, account=None, dereference=False)
    site.worked(ticket, "copied")
    site.worked(await site.transfers.mv("-i", "-v", site.deadline, account=None), "moved")
    site.worked(await site.transfers.rm("-v", site.deadline, account=None), "deleted")
    assert [name for name in inside(folder) if not name.startswith(".f7t")] == ["-n"]


@pytest.mark.parametrize("status", [0, 3])
def test_program_output_cannot_forge_the_success_line(status: int) -> None:
    script = Script(f'printf "%s\\n" "$1" "$LC_ALL"\ncat\nexit {status}\n', (f"{SUCCESS} hacked.",))
    done = subprocess.run(
        ["bash", "-c", job_script("", "/none", TransferJob.of("hack", "done", script))],
        capture_output=True,
        check=False,
        input=b"not for the program",
        env={"PATH": os.environ["PATH"], "PBS_JOBID": "7.server", "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == status
    assert b"Hack files job (id: 7.server)\n" in done.stdout
    assert b"hacked" not in done.stdout
    assert (SUCCESS.encode() in done.stdout) is (status == 0)
    assert done.stderr.startswith(b"Files were successfully hacked.\nC\n")
    assert b"not for" not in done.stderr


@pytest.mark.parametrize(("count", "status"), [("0", 0), ("1", 75)])
def test_requeued_job_does_nothing(count: str, status: int) -> None:
    done = subprocess.run(
        ["bash", "-c", job_script("", "/none", TransferJob.of("copy", "copied", Script("echo ran\n", ())))],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": count},
    )
    assert (done.returncode, "ran" in done.stderr, SUCCESS in done.stdout) == (status, not status, not status)
    assert ("Unable to copy files: the scheduler has started the job again." in done.stderr) is (status != 0)


async def test_no_permission(home: Path, ordinary: int | None) -> None:
    site = site_at(home, user=ordinary)
    (home / "data" / "file").write_text("x")
    (home / "data").chmod(0o555)
    source, target = str(home / "data" / "file"), str(home / "data" / "target")
    denied = "Permission denied"
    transfers, deadline = site.transfers, site.deadline
    site.failed(await transfers.mv(source, target, deadline, account=None), denied)
    site.failed(await transfers.cp(source, target, deadline, account=None, dereference=False), denied)
    site.failed(await transfers.rm(source, deadline, account=None), denied)
    site.failed(
        await transfers.compress(source, target, deadline, account=None, options=CompressOptions("gzip")),
        denied,
    )
    assert inside(home / "data") == ["file"]


async def test_partial_copy_fails(home: Path, ordinary: int | None) -> None:
    site = site_at(home, user=ordinary)
    (home / "data" / "open").write_text("x")
    (home / "data" / "secret").write_text("x")
    (home / "data" / "secret").chmod(0)
    if ordinary is not None:
        os.chown(home / "data" / "secret", 0, 0)
    ticket = await site.transfers.cp(
        str(home / "data"), str(home / "copy"), site.deadline, account=None, dereference=False
    )
    site.failed(ticket, "Permission denied")


async def test_exit_status_of_the_program_is_kept(site: Site) -> None:
    (site.root / "data" / "a").write_text("no archive")
    source, target = str(site.root / "data" / "a"), str(site.root / "data" / "t")
    ticket = await site.transfers.extract(source, target, site.deadline, account=None, compression="gzip")
    site.failed(ticket, "not in gzip format", status=2)
    ticket = await site.transfers.compress(
        source, target, site.deadline, account=None, options=CompressOptions("gzip", pattern="no")
    )
    site.failed(ticket, "matches the pattern", status=65)
    ticket = await site.transfers.mv(source, source, site.deadline, account=None)
    site.failed(ticket, "are the same file")


async def test_target_is_a_directory(site: Site) -> None:
    data = site.root / "data"
    (data / "folder").mkdir()
    (data / "file").write_text("x")
    ticket = await site.transfers.compress(
        str(data / "file"),
        str(data / "folder"),
        site.deadline,
        account=None,
        options=CompressOptions("gzip"),
    )
    site.failed(ticket, "Is a directory")
    ticket = await site.transfers.mv(str(data / "folder"), str(data / "file"), site.deadline, account=None)
    site.failed(ticket, "cannot overwrite non-directory")


class Gateway:
    """A TransferMethod that starts transfers at once."""

    async def upload(
        self,
        path: str,
        deadline: Deadline,  # noqa: ARG002 -- nothing is waited for
        *,
        account: str | None,
        request: TransferRequest,
    ) -> StartedTransfer:
        job = SubmittedTransfer(f"job of {account}", "/", "/out", "/err")
        return StartedTransfer(job, S3Directives([path], method=request.method))

    async def download(
        self, path: str, deadline: Deadline, *, account: str | None, request: TransferRequest
    ) -> StartedTransfer:
        return await self.upload(path, deadline, account=account, request=request)


@pytest.mark.parametrize("configured", [(), ("s3", "direct")])
@pytest.mark.parametrize("method", ["streamer", "wormhole"])
async def test_missing_methods_are_refused(tmp_path: Path, configured: tuple[str, ...], method: str) -> None:
    site = site_at(tmp_path)
    port: Submitter = site.scheduler
    through: TransferMethod = Gateway()
    transfers: Transfers = SchedulerTransfers(
        TransferSubmitter(port, "fireuser", work_root=str(tmp_path)),
        cluster="daint",
        methods=dict.fromkeys(configured, lambda: through),
    )
    for start in (transfers.upload, transfers.download):
        for known in configured:
            started = await start("/a", site.deadline, account="proj", request=TransferRequest(known))
            assert started.job.job_id == "job of proj"
            assert started.directives == S3Directives(["/a"], method=known)
        with pytest.raises(Invalid) as caught:
            await start("/a", site.deadline, account=None, request=TransferRequest(method))
        expected = f"the method {method} is not available on daint (available: {', '.join(configured) or 'none'})"
        assert caught.value.public == f"`transferMethod`: {expected}"
        assert caught.value.fields == (Field("body", "transferMethod", expected),)
    assert site.scheduler.specs == []
