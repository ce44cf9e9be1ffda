"""Toy sacctmgr: shows users, associations, accounts and clusters, without changing them."""

from __future__ import annotations

from flamecrest.sandbox.slurm import cluster
from flamecrest.sandbox.slurm.formats import CommandFailedError, fail, write_output
from flamecrest.sandbox.slurm.options import MAYBE, NO, Options

from .program import require_accounting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.sandbox.slurm.store import Store

_FLAGS = "associations help immediate json noheader oneliner parsable parsable2 quiet readonly usage version yaml"
OPTIONS = Options(
    "sacctmgr",
    {**dict.fromkeys(_FLAGS.split(), NO), "verbose": MAYBE},
    {
        "h": "help", "i": "immediate", "n": "noheader", "o": "oneliner", "p": "parsable", "P": "parsable2",
        "Q": "quiet", "r": "readonly", "s": "associations", "v": "verbose", "V": "version",
    },
)  # fmt: skip
_NOTHING = "Priority GrpJobs GrpTRES GrpSubmit GrpWall GrpTRESMins"
_NOR_THAT = "MaxJobs MaxTRES MaxTRESPerNode MaxSubmit MaxWall MaxTRESMins"
_ASSOCIATION = (
    "Cluster,Account,User,Partition,Share,Priority,GrpJobs,GrpTRES,GrpSubmit,GrpWall,GrpTRESMins,MaxJobs,MaxTRES,"
    "MaxTRESPerNode,MaxSubmit,MaxWall,MaxTRESMins,QOS,Def QOS,GrpTRESRunMins"
)
_USER = "User,Def Acct,Admin"
_LIMITS = "MaxJobs,MaxNodes,MaxCPUs,MaxSubmit,MaxWall,MaxCPUMins"
_USER_WITH = f"{_USER},Cluster,Account,Partition,Share,Priority,{_LIMITS},QOS,Def QOS"
_CLUSTER = (
    "Cluster,ControlHost,ControlPort,RPC,Share,GrpJobs,GrpTRES,GrpSubmit,MaxJobs,MaxTRES,MaxSubmit,MaxWall,QOS,Def QOS"
)
# The names that format= accepts, in lower case, and the titles of their columns.
_TITLES = {
    "user": "User", "name": "Name", "defaultaccount": "Def Acct", "defacct": "Def Acct", "account": "Account",
    "acct": "Account", "adminlevel": "Admin", "admin": "Admin", "cluster": "Cluster", "partition": "Partition",
    "share": "Share", "fairshare": "Share", "qos": "QOS", "defaultqos": "Def QOS", "defqos": "Def QOS",
    "descr": "Descr", "description": "Descr", "org": "Org", "organization": "Org", "controlhost": "ControlHost",
    "controlport": "ControlPort", "rpc": "RPC",
    **{name.lower(): name for name in f"{_NOTHING} {_NOR_THAT}".split()}, "grptresrunmins": "GrpTRESRunMins",
}  # fmt: skip
_WIDE = {"QOS": 20, "Descr": 20, "Org": 20, "ControlHost": 15}
_ACCOUNTS = {
    "other": ("other", "test"),
    "root": ("default root account", "root"),
    "test": ("test", "test"),
}
TableRow = dict[str, str]


def main(store: Store, words: Sequence[str]) -> int:
    options, rest = OPTIONS.read(words, mixed=True)
    if "version" in options:
        write_output(f"slurm-wlm {cluster.VERSION}\n")
        return 0
    if len(rest) < 2 or rest[0].lower() not in {"show", "list"}:
        fail("sacctmgr", f"invalid keyword: {rest[0] if rest else ''}")
    require_accounting(store, "sacctmgr")
    kind = rest[1].lower().rstrip("s")
    conditions, flags = _conditions(rest[2:], kind)
    if kind == "user":
        rows, columns = _users(store, conditions, with_associations="withassoc" in flags or "associations" in options)
    elif kind in {"assoc", "association"}:
        rows, columns = _associations(store, conditions), _ASSOCIATION
    elif kind == "account":
        found = conditions.get("account", set(_ACCOUNTS))
        rows = [
            {"Account": name, "Descr": _ACCOUNTS[name][0], "Org": _ACCOUNTS[name][1]}
            for name in sorted(found & set(_ACCOUNTS))
        ]
        columns = "Account,Descr,Org"
    elif kind == "cluster":
        rows, columns = [_cluster()], _CLUSTER
    else:
        raise CommandFailedError(
            f" No such thing as {rest[1]}: the toy sacctmgr shows users, associations, accounts, clusters"
        )
    _print(rows, _chosen(conditions, columns), options)
    return 0


def _conditions(words: list[str], kind: str) -> tuple[dict[str, set[str]], set[str]]:
    """Parse `user=a,b`, `where`, `format=x,y`, `withassoc`, and names without a key."""
    conditions: dict[str, set[str]] = {}
    flags = set()
    for word in words:
        key, equals, value = word.partition("=")
        key = key.lower().rstrip("s")
        if not equals and key in {"where", "withassoc", "withassociation"}:
            flags.add("withassoc" if key.startswith("with") else key)
        elif not equals:
            conditions.setdefault(kind, set()).update(word.split(","))
        elif key == "format":
            conditions["format"] = {value}
        elif key in {"user", "account", "cluster", "name", "partition"}:
            conditions.setdefault(kind if key == "name" else key, set()).update(value.strip("'\"").split(","))
        else:
            raise CommandFailedError(f" Unknown condition: {word}", " Use keyword 'set' to modify value")
    return conditions, flags


def _chosen(conditions: dict[str, set[str]], columns: str) -> list[tuple[str, int]]:
    given = next(iter(conditions["format"])) if "format" in conditions else columns
    chosen = []
    for word in given.split(","):
        name, _, width = word.partition("%")
        title = _TITLES.get(name.lower(), name if name in columns.split(",") else "")
        if not title:
            raise CommandFailedError(f" Unknown field '{name}'")
        chosen.append((title, int(width) if width.lstrip("-").isdecimal() else _WIDE.get(title, 10)))
    return chosen


def _associations(store: Store, conditions: dict[str, set[str]]) -> list[TableRow]:
    rows: list[TableRow] = []
    for user in store.users():
        for account in sorted(user.accounts.split(",")) if user.accounts else []:
            row = {
                "Cluster": cluster.CLUSTER,
                "Account": account,
                "User": user.name,
                "Share": "1",
                "QOS": "high,normal",
                "Def QOS": "normal",
            }
            if all(
                row.get(key.capitalize(), "") in wanted
                for key, wanted in conditions.items()
                if key not in {"format", "assoc"}
            ):
                rows.append(row)
    return rows


def _users(store: Store, conditions: dict[str, set[str]], *, with_associations: bool) -> tuple[list[TableRow], str]:
    rows: list[TableRow] = []
    for user in store.users():
        if not user.accounts or user.name not in conditions.get("user", {user.name}):
            continue
        line = {"User": user.name, "Def Acct": user.account, "Admin": "None"}
        if with_associations:
            rows += [{**row, **line} for row in _associations(store, {**conditions, "user": {user.name}})]
        else:
            rows.append(line)
    return rows, _USER_WITH if with_associations else _USER


def _cluster() -> TableRow:
    return {
        "Cluster": cluster.CLUSTER,
        "ControlHost": "127.0.0.1",
        "ControlPort": "6817",
        "RPC": "9728",
        "Share": "1",
        "QOS": "normal",
    }


def _print(rows: list[TableRow], columns: list[tuple[str, int]], options: dict[str, str]) -> None:
    header: TableRow = {title: title for title, _ in columns}
    if "parsable" in options or "parsable2" in options:
        end = "|\n" if "parsable" in options else "\n"
        shown = rows if "noheader" in options else [header, *rows]
        write_output("".join("|".join(row.get(title, "") for title, _ in columns) + end for row in shown))
        return
    if "noheader" not in options:
        rows = [header, {title: "-" * abs(width) for title, width in columns}, *rows]
    for row in rows:
        write_output(" ".join(_cell(row.get(title, ""), width) for title, width in columns) + " \n")


def _cell(text: str, width: int) -> str:
    room = abs(width)
    text = text if len(text) <= room else text[: room - 1] + "+"
    return text.ljust(room) if width < 0 else text.rjust(room)
