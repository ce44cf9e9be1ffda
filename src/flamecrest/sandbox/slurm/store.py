"""The state of the toy Slurm: jobs, steps, users and settings, in one SQLite file that every executable opens."""

from __future__ import annotations

import _sqlite3 as sqlite3  # without the adapters of dates in sqlite3, which take a tenth of a command's time

TYPE_CHECKING = False  # typing takes longer to import than all of this
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, TypeVar

    R = TypeVar("R", bound="Record")

_COLUMNS = {
    "id": "INTEGER PRIMARY KEY",
    "array_job": "INTEGER",  # the array's number; NULL for other jobs
    "array_task": "INTEGER",  # NULL for the tasks that have not started
    "array_tasks": "TEXT NOT NULL DEFAULT ''",  # the tasks that have not started: 2,3,4
    "array_limit": "INTEGER NOT NULL DEFAULT 0",
    "name": "TEXT NOT NULL",
    "user": "TEXT NOT NULL",
    "uid": "INTEGER NOT NULL",
    "account": "TEXT NOT NULL",
    "partition": "TEXT NOT NULL",
    "qos": "TEXT NOT NULL",
    "reservation": "TEXT NOT NULL DEFAULT ''",
    "features": "TEXT NOT NULL DEFAULT ''",
    "dependency": "TEXT NOT NULL DEFAULT ''",
    "state": "TEXT NOT NULL DEFAULT 'PENDING'",
    "reason": "TEXT NOT NULL DEFAULT 'None'",
    "reason_before_start": "TEXT NOT NULL DEFAULT 'None'",  # the pending reason when nodes were allocated
    "held": "INTEGER NOT NULL DEFAULT 0",
    "begin": "INTEGER NOT NULL DEFAULT 0",
    "submit": "INTEGER NOT NULL",
    "start": "INTEGER NOT NULL DEFAULT 0",
    "end": "INTEGER NOT NULL DEFAULT 0",
    "ended": "REAL NOT NULL DEFAULT 0",  # the end with fractions of a second
    "minutes": "INTEGER NOT NULL",  # the time limit; 0: none
    "nodes": "INTEGER NOT NULL",
    "tasks": "INTEGER NOT NULL",
    "cpus_per_task": "INTEGER NOT NULL",
    "memory": "INTEGER NOT NULL",  # MiB
    "nodelist": "TEXT NOT NULL DEFAULT ''",
    "priority": "INTEGER NOT NULL",
    "status": "INTEGER NOT NULL DEFAULT 0",  # a wait(2) status
    "cancelled_by": "INTEGER",  # the uid that cancelled it
    "workdir": "TEXT NOT NULL",
    "command": "TEXT NOT NULL DEFAULT ''",
    "arguments": "BLOB NOT NULL DEFAULT x''",  # each terminated by NUL
    "comment": "TEXT NOT NULL DEFAULT ''",
    "stdin": "TEXT NOT NULL DEFAULT ''",
    "stdout": "TEXT NOT NULL DEFAULT ''",
    "stderr": "TEXT NOT NULL DEFAULT ''",
    "append": "INTEGER NOT NULL DEFAULT 0",
    "script": "BLOB NOT NULL",
    "environment": "BLOB NOT NULL",  # NAME=VALUE, each terminated by NUL
    "submit_line": "TEXT NOT NULL DEFAULT ''",
    "runner": "INTEGER NOT NULL DEFAULT 0",  # a pid, and the start time of that process
    "runner_began": "INTEGER NOT NULL DEFAULT 0",
    "shell": "INTEGER NOT NULL DEFAULT 0",  # the same for the process of the script
    "shell_began": "INTEGER NOT NULL DEFAULT 0",
}
_STEP_COLUMNS = {
    "job": "INTEGER",
    "number": "INTEGER",
    "name": "TEXT NOT NULL",
    "state": "TEXT NOT NULL DEFAULT 'RUNNING'",
    "status": "INTEGER NOT NULL DEFAULT 0",
    "start": "INTEGER NOT NULL",
    "end": "INTEGER NOT NULL DEFAULT 0",
    "process": "INTEGER NOT NULL DEFAULT 0",
    "process_began": "INTEGER NOT NULL DEFAULT 0",
}
_USER_COLUMNS = {
    "name": "TEXT PRIMARY KEY",
    "uid": "INTEGER NOT NULL",
    "home": "TEXT NOT NULL",
    "account": "TEXT NOT NULL",  # the default account
    "accounts": "TEXT NOT NULL",  # all accounts, separated by commas
}
SETTINGS = {
    "first_id": 1.0,
    "began": 0.0,  # start of the cluster, in seconds since the epoch
    "cpus": 8.0,  # per node
    "start_delay": 0.2,  # seconds between the allocation and the start of a job
    "kill_wait": 2.0,  # seconds between SIGTERM and SIGKILL
    "minute": 60.0,  # seconds per minute of a time limit
    "min_job_age": 300.0,  # seconds until the controller forgets an ended job
    "slow": 0.0,  # seconds added to every command
    "history_lag": 0.0,  # delay of the accounting records, in seconds
    "controller_down": 0.0,  # 1: slurmctld refuses connections
    "controller_timeout": 0.0,  # seconds until a command reports it
    "controller_silent": 0.0,  # 1: slurmctld accepts connections and does not respond
    "records_down": 0.0,  # 1: slurmdbd does not answer
    "no_records": 0.0,  # 1: there is no accounting
    "lost_answers": 0.0,  # 1: sbatch submits the job and gets no response
    "private": 0.0,  # 1: PrivateData is set; nobody is kept from anything
    "strict_limits": 0.0,  # 1: EnforcePartLimits=ALL
}


class Record:
    """A row of a table, with its columns as attributes."""

    def __init__(self, cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> None:
        for column, value in zip(cursor.description, values, strict=True):
            setattr(self, column[0], value)


class StoredJob(Record):
    """A job, an array task that has started, or the tasks of an array that have not started."""

    id: int
    array_job: int | None
    array_task: int | None
    array_tasks: str
    array_limit: int
    name: str
    user: str
    uid: int
    account: str
    partition: str
    qos: str
    reservation: str
    features: str
    dependency: str
    state: str
    reason: str
    reason_before_start: str
    held: int
    begin: int
    submit: int
    start: int
    end: int
    ended: float
    minutes: int
    nodes: int
    tasks: int
    cpus_per_task: int
    memory: int
    nodelist: str
    priority: int
    status: int
    cancelled_by: int | None
    workdir: str
    command: str
    arguments: bytes
    comment: str
    stdin: str
    stdout: str
    stderr: str
    append: int
    script: bytes
    environment: bytes
    submit_line: str
    runner: int
    runner_began: int
    shell: int
    shell_began: int

    def copy(self) -> StoredJob:
        """A separate record with the same values."""
        one = object.__new__(StoredJob)
        one.__dict__.update(self.__dict__)
        return one

    @property
    def cpus(self) -> int:
        return max(self.nodes, self.tasks * self.cpus_per_task)

    @property
    def finished(self) -> bool:
        return self.ended > 0

    @property
    def pending_tasks(self) -> list[int]:
        """The ids of the array tasks that have not started."""
        return [int(task) for task in self.array_tasks.split(",")] if self.array_tasks else []


class StepRecord(Record):
    """A step that srun started in a job."""

    job: int
    number: int
    name: str
    state: str
    status: int
    start: int
    end: int
    process: int
    process_began: int


class UserRecord(Record):
    """A user of the cluster, and the Slurm accounts that the user may charge."""

    name: str
    uid: int
    home: str
    account: str
    accounts: str


class Transaction:
    """A block of reads and writes, undone if it raises. contextlib would take a fifth of a command's time to import."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")


class Store:
    """The SQLite file. Every write is a transaction, except within `transaction()`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        own, _, _ = folder.rpartition("/clusters/")  # of the login node's cluster, if this is another one
        self.root = (own if own.endswith("/slurm") else folder).rpartition("/")[0]  # the sandbox's
        self._settings: dict[str, float] | None = None
        self.open()

    def open(self) -> None:
        """Open the file, also after close()."""
        self._database = sqlite3.connect(f"{self.folder}/slurm.db", timeout=30, isolation_level=None)
        self._database.text_factory = _text
        self._database.execute("PRAGMA synchronous=OFF")

    def create(self) -> None:
        """Create missing tables."""
        tables = {"jobs": _COLUMNS, "steps": _STEP_COLUMNS, "users": _USER_COLUMNS}
        for table, columns in tables.items():
            lines = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {table} ({lines})")
        self._database.execute("CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value REAL NOT NULL)")

    def close(self) -> None:
        self._database.close()

    def transaction(self) -> Transaction:
        """Run a block of reads and writes atomically, without writes of other processes."""
        return Transaction(self._database)

    def setting(self, name: str) -> float:
        if self._settings is None:
            self._settings = dict(self._database.execute("SELECT name, value FROM settings"))
        return self._settings.get(name, SETTINGS[name])

    def set(self, name: str, value: float) -> None:
        if name not in SETTINGS:
            raise KeyError(name)
        self._database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, float(value)))
        self._settings = None

    def jobs(self, where: str = "1", *values: object) -> list[StoredJob]:
        """The jobs that fulfil an SQL condition, by number."""
        return self._read(StoredJob, f"SELECT * FROM jobs WHERE {where} ORDER BY id", values)

    def job(self, number: int) -> StoredJob | None:
        found = self.jobs("id = ?", number)
        return found[0] if found else None

    def add(self, **values: object) -> int:
        """Insert a job and return its number; within transaction()."""
        last = self._database.execute("SELECT max(id) FROM jobs").fetchone()[0]
        number = max(int(last or 0) + 1, int(self.setting("first_id")))
        self._insert("jobs", {**values, "id": number})
        return number

    def split(self, job: StoredJob, **changes: object) -> int:
        """Copy a job to a new number and return it; within transaction()."""
        values = {name: getattr(job, name) for name in _COLUMNS if name != "id"}
        return self.add(**{**values, **changes})

    def update(self, number: int, **changes: object) -> None:
        names = ", ".join(f'"{name}" = {_placeholder(value)}' for name, value in changes.items())
        self._database.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*map(_encoded, changes.values()), number))

    def steps(self, number: int) -> list[StepRecord]:
        return self._read(StepRecord, "SELECT * FROM steps WHERE job = ? ORDER BY number", (number,))

    def add_step(self, job: int, **values: object) -> int:
        """Insert the next step of a job and return its number; within transaction()."""
        count = self._database.execute("SELECT count(*) FROM steps WHERE job = ?", (job,)).fetchone()[0]
        self._insert("steps", {**values, "job": job, "number": count})
        return int(count)

    def update_step(self, job: int, number: int, **changes: object) -> None:
        names = ", ".join(f'"{name}" = {_placeholder(value)}' for name, value in changes.items())
        values = (*map(_encoded, changes.values()), job, number)
        self._database.execute(f"UPDATE steps SET {names} WHERE job = ? AND number = ?", values)

    def users(self) -> list[UserRecord]:
        return self._read(UserRecord, "SELECT * FROM users ORDER BY uid", ())

    def user(self, name: str) -> UserRecord | None:
        found = self._read(UserRecord, "SELECT * FROM users WHERE name = ?", (name,))
        return found[0] if found else None

    def put_user(self, **values: object) -> None:
        self._database.execute("DELETE FROM users WHERE name = ?", (values["name"],))
        self._insert("users", values)

    def _insert(self, table: str, values: dict[str, object]) -> None:
        names, marks = ", ".join(f'"{name}"' for name in values), ", ".join(map(_placeholder, values.values()))
        self._database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(map(_encoded, values.values())))

    def _read(self, kind: type[R], query: str, values: tuple[object, ...]) -> list[R]:
        cursor = self._database.execute(query, values)
        return [kind(cursor, row) for row in cursor]


# Texts are arbitrary bytes, like command lines and paths. sqlite3 accepts UTF-8 only.
def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _placeholder(value: object) -> str:
    return "CAST(? AS TEXT)" if isinstance(value, str) else "?"


def _encoded(value: object) -> object:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
