"""Small real ports for the HTTP room: an authenticator, an authorizer, a scheduler and transfers, in memory."""

# ruff: noqa: ARG002 -- a port's method takes what the port says

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from flamecrest.server.auth.port import AccessRequest, Decision, Identity, RequestProof, Verb
from flamecrest.server.errors import Conflict, Invalid, NotFound, Unauthenticated, Unsupported
from flamecrest.server.schedulers.capabilities import CHANGES, JOB_FIELDS, Capabilities, Operation
from flamecrest.server.schedulers.values import (
    Account,
    Job,
    JobAction,
    JobChange,
    JobMetadata,
    JobSpec,
    JobStep,
    JobTimes,
    Node,
    Partition,
    Reservation,
    SharedList,
    Stage,
    SubmissionCheck,
)
from flamecrest.server.ssh.user import NamedId, User
from flamecrest.server.transfer.port import (
    S3Directives,
    StartedTransfer,
    StreamerDirectives,
    SubmittedTransfer,
    TransferRequest,
    WormholeDirectives,
    method_unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.errors import GatewayError
    from flamecrest.server.files.resumable.port import Uploads
    from flamecrest.server.files.values import Compression, CompressOptions

TOKENS = {"token-of-fireuser": "fireuser", "token-of-bob": "bob"}


class Tokens:
    """An Authenticator with a fixed set of tokens."""

    async def authenticate(
        self, authorization: str | None, deadline: Deadline, proof: Callable[[], RequestProof] | None = None
    ) -> Identity:
        if authorization is None:
            raise Unauthenticated("Not authenticated")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or token not in TOKENS:
            raise Unauthenticated("Access token is invalid.", detail="unknown token")
        return Identity(TOKENS[token])


@dataclass
class Rules:
    """An Authorizer with a list of what is forbidden."""

    forbidden: set[tuple[str, Verb]] = field(default_factory=set)
    forbidden_paths: set[str] = field(default_factory=set)
    asked: list[AccessRequest] = field(default_factory=list)

    async def decide(self, request: AccessRequest, deadline: Deadline) -> Decision:
        self.asked.append(request)
        forbidden: list[str] = [
            verb for verb, _ in request.needs() if (request.identity.username, verb) in self.forbidden
        ]
        forbidden += [path for path in request.paths if path in self.forbidden_paths]
        return Decision(not forbidden, "toy", f"forbidden: {forbidden}")

    def depends_on_paths(self, request: AccessRequest) -> bool:
        return bool(self.forbidden_paths)

    async def usable(self, identity: Identity, clusters: Sequence[str], deadline: Deadline) -> frozenset[str]:
        return frozenset(clusters)


def no_uploads(_: Identity) -> Uploads:
    raise Unsupported("This cluster takes no resumable uploads")


class Queue:
    """A Scheduler in memory: jobs stay pending until a test finishes or cancels them."""

    capabilities = Capabilities(
        JOB_FIELDS, CHANGES, frozenset(Operation) - {Operation.SUSPEND, Operation.RESUME, Operation.REQUEUE}
    )

    age = 0.0

    def __init__(self) -> None:
        self.looks = True  # False: who waits for a change waits as long as asked
        self.waiting = 0  # for a change
        self.elapsed = 0
        self.fault: GatewayError | None = None  # of lists
        self.deadlines: list[Deadline] = []  # of submissions
        self.refusal: GatewayError | None = None  # of submissions
        self.lists = 0
        self.windows: list[int] = []
        self.shared: SharedList[Job] | None = None  # the list that requests share
        self.specs: dict[str, JobSpec] = {}
        self.states: dict[str, str] = {}
        self.attached: list[tuple[str, str]] = []
        self.asked: dict[str, Any] = {}
        self.signals: list[tuple[str, str]] = []

    @asynccontextmanager
    async def batch(self, specs: Sequence[JobSpec], seconds: float) -> AsyncIterator[Mapping[str, str]]:
        yield {}

    async def submit(self, spec: JobSpec, deadline: Deadline) -> str:
        self.deadlines.append(deadline)
        if self.refusal is not None:
            raise self.refusal
        job_id = str(315 + len(self.specs))
        self.specs[job_id], self.states[job_id] = spec, "PENDING"
        return job_id

    async def jobs(
        self, *, all_users: bool, account: str | None, name: str | None, window: int, deadline: Deadline
    ) -> list[Job]:
        self.asked = {"all_users": all_users, "account": account, "name": name, "window": window}
        self.lists += 1
        self.windows.append(window)
        if self.fault is not None:
            raise self.fault
        if self.shared is not None:
            return self.shared
        return [self._job(one) for one in self.specs if name in (None, self.specs[one].name)]

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        self._known(job_id)
        return [self._job(job_id)]

    async def jobs_by_id(self, job_ids: Sequence[str], deadline: Deadline) -> dict[str, Job | GatewayError]:
        return {job_id: self._job(job_id) if job_id in self.specs else NotFound("Job not found.") for job_id in job_ids}

    async def wait_for_change(self, seconds: float) -> None:
        self.waiting += 1
        try:
            await asyncio.sleep(min(seconds, 0.005) if self.looks else seconds)
        finally:
            self.waiting -= 1

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        spec = self._known(job_id)
        return [
            JobMetadata(
                job_id, spec.script, spec.standard_input or "/dev/null", spec.standard_output, spec.standard_error
            )
        ]

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        self._known(job_id)
        if self.states[job_id] != "COMPLETED":
            self.states[job_id] = "CANCELLED"

    async def check(self, spec: JobSpec, deadline: Deadline) -> SubmissionCheck:
        if spec.partition not in {None, "debug", "long"}:
            raise Invalid("invalid partition specified: " + str(spec.partition))
        return SubmissionCheck(1795295754, spec.partition or "debug", "nid004", 1)

    async def find(self, marker: str, deadline: Deadline) -> str | None:
        return next((job_id for job_id, spec in self.specs.items() if spec.marker == marker), None)

    async def act(self, job_id: str, action: JobAction, deadline: Deadline) -> None:
        spec = self._known(job_id)
        self.capabilities.check_operation(Operation(action), "Queue")
        self.specs[job_id] = replace(spec, hold=action is JobAction.HOLD)

    async def signal(self, job_id: str, signal: str, deadline: Deadline) -> None:
        if self._known(job_id).hold:
            raise Conflict("The job waits")
        self.signals.append((job_id, signal))

    async def change(self, job_id: str, change: JobChange, deadline: Deadline) -> None:
        given = {one.name: value for one in fields(change) if (value := getattr(change, one.name)) is not None}
        self.specs[job_id] = replace(self._known(job_id), **given)

    async def attach(self, job_id: str, command: str, deadline: Deadline) -> None:
        self._known(job_id)
        self.attached.append((job_id, command))

    async def nodes(self, deadline: Deadline) -> list[Node]:
        return [
            Node(
                "nid001",
                ["IDLE"],
                8,
                ["debug", "long"],
                8,
                8,
                8,
                0.45,
                22458,
                16000,
                0,
                8,
                "fake",
                "127.0.0.1",
                "vm",
                1,
            )
        ]

    async def partitions(self, deadline: Deadline, *, hidden: bool) -> list[Partition]:
        return [Partition("debug", "UP", 32, 4), *([Partition("secret", "UP")] if hidden else [])]

    async def reservations(self, deadline: Deadline) -> list[Reservation]:
        return [Reservation("testres", "nid004", 1795293308, 1826829308, "active")]

    async def accounts(self, deadline: Deadline) -> list[Account] | None:
        return [Account("other", default=False), Account("test", default=True)]

    async def ping(self, deadline: Deadline) -> None:
        return

    def _known(self, job_id: str) -> JobSpec:
        try:
            return self.specs[job_id]
        except KeyError:
            raise NotFound("Job not found.") from None

    def _job(self, job_id: str) -> Job:
        spec, state = self.specs[job_id], self.states[job_id]
        ran = state != "PENDING"
        ended = ran and state != "RUNNING"
        return Job(
            id=job_id,
            name=spec.name or "sbatch",
            state=state,
            stage=Stage.ENDED if ended else Stage.RUNNING if ran else Stage.WAITING,
            user="fireuser",
            reason="None",
            exit_code=0 if ran else None,
            signal=0 if ran else None,
            times=JobTimes(
                1795295700, 1795295754 if ran else None, 1795295755 if ended else None, self.elapsed, None, 600
            ),
            account="test",
            group="fireuser",
            partition=spec.partition or "debug",
            cluster="cluster",
            nodes="nid004" if ran else "",
            node_count=1,
            priority=100,
            working_directory=spec.working_directory,
            steps=[JobStep(f"{job_id}.batch", "batch", state, 0, 0, JobTimes(elapsed=1, suspended=0))] if ran else [],
        )


class Movers:
    """Transfers that only record the calls. `methods` are the supported upload and download methods."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...], dict[str, Any]]] = []
        self.methods: dict[str, S3Directives | StreamerDirectives | WormholeDirectives] = {
            "s3": S3Directives(download_url="https://s3.example.org/f?signature=x", max_part_size=7)
        }

    def _ticket(self, verb: str, *paths: str, **options: Any) -> SubmittedTransfer:
        self.asked.append((verb, paths, options))
        return SubmittedTransfer(
            str(319 + len(self.asked)), "/home/fireuser", "/home/fireuser/.out.log", "/home/fireuser/.err.log"
        )

    async def mv(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, key: str | None = None
    ) -> SubmittedTransfer:
        return self._ticket("mv", source, target, account=account, key=key)

    async def cp(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        account: str | None,
        key: str | None = None,
        dereference: bool,
    ) -> SubmittedTransfer:
        return self._ticket("cp", source, target, account=account, key=key, dereference=dereference)

    async def rm(
        self, path: str, deadline: Deadline, *, account: str | None, key: str | None = None
    ) -> SubmittedTransfer:
        return self._ticket("rm", path, account=account, key=key)

    async def compress(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        account: str | None,
        key: str | None = None,
        options: CompressOptions,
    ) -> SubmittedTransfer:
        return self._ticket("compress", source, target, account=account, key=key, options=options)

    async def extract(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        account: str | None,
        key: str | None = None,
        compression: Compression,
    ) -> SubmittedTransfer:
        return self._ticket("extract", source, target, account=account, key=key, compression=compression)

    async def upload(
        self, path: str, deadline: Deadline, *, account: str | None, request: TransferRequest
    ) -> StartedTransfer:
        return self._started("upload", path, account, request)

    async def download(
        self, path: str, deadline: Deadline, *, account: str | None, request: TransferRequest
    ) -> StartedTransfer:
        return self._started("download", path, account, request)

    def _started(self, verb: str, path: str, account: str | None, request: TransferRequest) -> StartedTransfer:
        if request.method not in self.methods:
            raise method_unavailable(request.method, "Toy", list(self.methods))
        return StartedTransfer(self._ticket(verb, path, account=account, request=request), self.methods[request.method])


async def the_user(identity: Identity, deadline: Deadline) -> User:
    one = NamedId("1001", identity.username)
    return User(one, one, [one, NamedId("27", "sudo")])
