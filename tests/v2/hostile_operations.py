"""The gateway's operations, read from its OpenAPI document: their fields and valid requests.

It knows no hostile value. A required field of a new endpoint without a value in `baseline` is an error.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_from_bytes

import httpx

Document = dict[str, Any]

BOUNDARY = "hostile-boundary"


@dataclass(frozen=True)
class Raw:
    """A value that is written into a JSON document unescaped."""

    text: str


@dataclass(frozen=True, repr=False)
class Field:
    """One value of a request. `at` leads to it in the body; `choice` is the variant it belongs to."""

    place: str  # path, query, header or body
    at: tuple[str | int, ...]
    schema: Document = field(hash=False)
    required: bool
    choice: tuple[str, ...] = ()  # (discriminator, its value)

    @property
    def name(self) -> str:
        return str(self.at[-1])

    @property
    def shown(self) -> str:
        """The name in errors: that of a field in a list of jobs has its place."""
        return ".".join(map(str, self.at)) if self.at[0] == "jobs" else self.name

    @property
    def nullable(self) -> bool:
        return any(part.get("type") == "null" for part in self.schema.get("anyOf", []))

    @property
    def kinds(self) -> list[Document]:
        """The schemas that a value may have, without null."""
        return [part for part in self.schema.get("anyOf", [self.schema]) if part.get("type") != "null"]

    def __repr__(self) -> str:
        return ".".join((self.place, *map(str, self.at))) + (f" ({self.choice[1]})" if self.choice else "")


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    fields: tuple[Field, ...]
    media: str | None  # of the body

    @property
    def id(self) -> str:
        return f"{self.method} {self.path}".replace("{system_name}", "S").replace("/filesystem/S", "")

    def of(self, place: str) -> list[Field]:
        return [one for one in self.fields if one.place == place]

    def choices(self) -> list[tuple[str, ...]]:
        """The variants of the body, or `[()]` if it has none."""
        return list(dict.fromkeys(one.choice for one in self.fields if one.choice)) or [()]


def operations(document: Document) -> list[Operation]:
    """All of them."""
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            fields = [
                Field(one["in"], (one["name"],), resolved(document, one["schema"]), one.get("required", False))
                for one in operation.get("parameters", [])
            ]
            content = operation.get("requestBody", {}).get("content", {})
            media = next(iter(content), None)
            if media is not None:
                fields += walk(document, content[media]["schema"])
            found.append(Operation(method.upper(), path, tuple(fields), media))
    return found


def resolved(document: Document, schema: Document) -> Document:
    """The schema without references at its top, nor in its alternatives."""
    while "$ref" in schema:
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]] | rest
    if "anyOf" in schema:
        return schema | {"anyOf": [resolved(document, part) for part in schema["anyOf"]]}
    return schema


def walk(
    document: Document, schema: Document, at: tuple[str | int, ...] = (), choice: tuple[str, ...] = ()
) -> Iterator[Field]:
    """The fields of an object, those within its objects too; of a list of objects, those of the first."""
    schema = resolved(document, schema)
    for name, value in schema.get("properties", {}).items():
        inner = resolved(document, value)
        needed = name in schema.get("required", [])
        yield Field("body", (*at, name), inner, needed, choice)
        yield from walk(document, inner, (*at, name), choice)
        if inner.get("type") == "array":
            yield from walk(document, inner["items"], (*at, name, 0), choice)
        if "discriminator" in inner:
            tag = inner["discriminator"]
            for word, reference in tag["mapping"].items():
                yield from walk(document, {"$ref": reference}, (*at, name), (tag["propertyName"], word))


@dataclass(frozen=True)
class Ground:
    """A folder on the cluster with the files that valid requests need."""

    system: str
    folder: str
    account: str
    job: str  # one that has ended
    older: frozenset[str] = frozenset()  # the ids of the user's jobs that other tests have left

    def baseline(self, operation: Operation) -> dict[str, Any]:
        """A value for everything that an operation may require, by its name."""
        end = operation.path.rpartition("/")[2]
        path = {
            "upload": "",
            "uploads": "",
            "compress": "/tree",
            "extract": "/tree.tar.gz",
            "mkdir": "/new",
            "rm": "/none",
            "sync": "/tree",
        }
        path |= {"mv": "/movable"} if "/ops/" in operation.path else {"mv": "/none", "upload": "/none"}
        path |= {"upload": "/put"} if operation.method == "PUT" else {}
        path |= {"upload": ""} if operation.path.endswith("/bulk/upload") else {}
        return {
            "system_name": self.system,
            "upload": "none",
            "transfer_id": "none",
            "token_id": "none",
            "verbs": ["status"],
            "targetSystem": self.system,
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Upload-Length": "4",
            "Upload-Metadata": f"filename {base64.b64encode(b'tus').decode()}",
            "paths": [f"{self.folder}/file"],
            "items": [{}],
            "size": 0,
            "job_id": self.job,
            "jobIds": [self.job],
            "signal": "USR1",
            "path": self.folder + path.get(end, "/file"),
            "sourcePath": self.folder + path.get(end, "/file"),
            "targetPath": f"{self.folder}/{end}",
            "linkPath": f"{self.folder}/link",
            "mode": "640",
            "command": "true",
            "workingDirectory": self.folder,
            "script": "#!/bin/sh\n:\n",
            "wormholeCode": "1-guitarist-revenge",
        }

    # Optional fields that a valid request still needs, by the end of the path and the field name.
    ALWAYS = frozenset(
        {("jobs", "script"), ("jobs", "account"), ("submit", "script"), ("validate", "script"), ("attach", "command")}
        | {("uploads", name) for name in ("path", "Upload-Length", "Upload-Metadata")}
    )

    def request(self, operation: Operation, choice: tuple[str, ...] = ()) -> Request:
        """A valid request. Raises KeyError for a required field that has no value."""
        values = self.baseline(operation) | {"account": self.account}
        end = operation.path.rpartition("/")[2]
        transfer = "/transfer/" in operation.path
        request = Request(operation)
        for one in operation.fields:
            if one.choice not in {(), choice}:
                continue
            wanted = one.required or (end, one.name) in self.ALWAYS or (transfer and one.name == "account")
            if not wanted or one.name == "file":
                continue
            if one.choice and one.name == one.choice[0]:
                request.put(one, one.choice[1])
            elif one.name in {"items", "jobs"}:
                request.put(one, [{}])
            elif any("properties" in kind or "discriminator" in kind for kind in one.kinds):
                request.put(one, {})
            elif operation.method == "GET" and one.name == "account":
                continue
            else:
                request.put(one, values[one.name])
        return request


@dataclass
class Request:
    """A request as it is being made."""

    operation: Operation
    path: dict[str, str] = field(default_factory=dict)
    query: list[tuple[str, str]] = field(default_factory=list)
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def put(self, at: Field, value: Any) -> None:
        """Set a field; drop fields that exclude it."""
        if at.place == "path":
            self.path[at.name] = value
        elif at.place == "query":
            self.query = [(name, old) for name, old in self.query if name != at.name] + [(at.name, value)]
        elif at.place == "header":
            self.headers[at.name] = value
        else:
            holder = self.holder(at)
            holder[at.name] = value
            if at.name == "scriptPath":
                holder.pop("script", None)

    def drop(self, at: Field) -> None:
        """Leave a field out."""
        if at.place == "query":
            self.query = [(name, old) for name, old in self.query if name != at.name]
        elif at.place == "header":
            del self.headers[at.name]
        else:
            del self.holder(at)[at.name]

    def holder(self, at: Field) -> dict[str, Any]:
        holder: Any = self.body
        for name in at.at[:-1]:
            holder = holder[name]
        found: dict[str, Any] = holder
        return found

    def url(self) -> str:
        path = self.operation.path
        for name, value in self.path.items():
            path = path.replace(f"{{{name}}}", quoted(value))
        return path + "?" * bool(self.query) + "&".join(f"{quoted(name)}={quoted(value)}" for name, value in self.query)

    def content(self) -> bytes | None:
        match self.operation.media:
            case None:
                return None
            case "application/json":
                return document(self.body)
            case "application/x-tar":
                return bytes(1024)  # an archive of nothing
            case "multipart/form-data":
                return form(("file", "fine.txt", b"data"))
        return b"data"

    def build(self, client: httpx.AsyncClient) -> httpx.Request:
        headers = {name.encode(): os.fsencode(value) for name, value in self.headers.items()}
        if self.operation.media:
            extra = f"; boundary={BOUNDARY}" if "multipart" in self.operation.media else ""
            headers.setdefault(b"Content-Type", (self.operation.media + extra).encode())
        return client.build_request(self.operation.method, self.url(), content=self.content(), headers=headers)


def quoted(value: str) -> str:
    """Percent-encode every byte."""
    return quote_from_bytes(os.fsencode(value), safe="")


def document(value: Any) -> bytes:
    """JSON, with Raw values unescaped."""
    raws: list[str] = []

    def plain(one: Any) -> Any:
        if isinstance(one, Raw):
            raws.append(one.text)
            return f"@raw{len(raws) - 1}@"
        if isinstance(one, Mapping):
            return {name: plain(inner) for name, inner in one.items()}
        return [plain(inner) for inner in one] if isinstance(one, list) else one

    text = json.dumps(plain(value))
    for number, raw in enumerate(raws):
        text = text.replace(f'"@raw{number}@"', raw)
    return text.encode()


def form(*parts: tuple[str, str, bytes]) -> bytes:
    """A multipart body of (field, file name, bytes)."""
    whole = []
    for name, filename, data in parts:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
        whole += [os.fsencode(head), data, b"\r\n"]
    return b"".join([*whole, f"--{BOUNDARY}--\r\n".encode()])
