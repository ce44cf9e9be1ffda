"""MkDocs hook: make the pages below `api/` from the application's OpenAPI document, at every build.

MkDocs calls `on_files`. Nothing is written into the source tree, so there is no copy that can grow old.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from flamecrest.server.app import build_app

Schema = dict[str, Any]

# Page, title, and the beginning of its operations' paths. The first one that fits is taken.
PAGES: Final = (
    ("status", "Status", "/status/"),
    ("compute", "Jobs", "/compute/"),
    ("filesystem", "Files", "/filesystem/{system_name}/ops/"),
    ("bulk", "Many files", "/filesystem/{system_name}/bulk/"),
    ("uploads", "Resumable uploads", "/filesystem/{system_name}/uploads"),
    ("transfer", "Transfer jobs", "/filesystem/{system_name}/transfer"),
    ("tokens", "Narrow tokens", "/tokens"),
)
INTRODUCTION: Final = """# API reference

These pages are made from the gateway's own [OpenAPI document](openapi.json). A running gateway serves the same document
at `/openapi.json`, and pages to try it at `/docs` and `/redoc`.

- Every request needs `Authorization: Bearer <token>`, unless its description says otherwise.
- `{system_name}` is a cluster's name as `GET /status/systems` shows it. Upper and lower case are the same.
- A failed request has a status of 400 to 599 and the body [ApiResponseError](models.md#apiresponseerror).

| operation | what it does |
|---|---|
"""


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    spec: dict[str, Any]

    @property
    def heading(self) -> str:
        """Method and path without what all paths of a page begin with: short enough for a table of contents."""
        return f"{self.method} {self.path.rpartition('{system_name}/')[2]}"

    @property
    def anchor(self) -> str:
        """The anchor of the heading; unique on its page, since method and path are."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.heading.lower()).strip("-")

    @property
    def page(self) -> str:
        """The page that shows it. A path that belongs to no page is an error: give it one in PAGES."""
        return next(page for page, _, beginning in PAGES if self.path.startswith(beginning))


def document() -> dict[str, Any]:
    """The OpenAPI document of the application."""
    return build_app(nullcontext).openapi()  # type: ignore[arg-type]  # the gateway is not opened here


def operations(api: dict[str, Any]) -> list[Operation]:
    """All operations, in the order of the document."""
    return [
        Operation(method.upper(), path, spec)
        for path, methods in api["paths"].items()
        for method, spec in methods.items()
    ]


def cell(text: str) -> str:
    """The text, fit for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A Markdown table, or nothing if it has no rows."""
    lines = [f"| {' | '.join(map(cell, row))} |" for row in rows]
    if lines:
        yield from ("", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *lines)


def kind(schema: Schema) -> str:
    """The type of a value, in a few words; a model is a link to its table."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](models.md#{name.lower()})"
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(kind(one) for one in schema[union])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    name = schema.get("type", "any")
    if name == "array":
        return f"list of {kind(schema.get('items', {}))}"
    if name == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping of text to {kind(schema['additionalProperties'])}"
    return {"string": "bytes" if schema.get("format") == "binary" else "text"}.get(name, str(name))


def limits(schema: Schema) -> Iterator[str]:
    """Default and limits of a value, in words."""
    if schema.get("default") is not None:
        yield f"default `{json.dumps(schema['default'])}`"
    words = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "maxLength": "at most {} characters",
        "maxItems": "at most {} items",
    }
    for part in (schema, *schema.get("anyOf", ())):
        yield from (words[key].format(part[key]) for key in words if key in part)


def meaning(text: str, schema: Schema, *, required: bool) -> str:
    """A value's description, between the word that it is required and its limits."""
    parts = ("Required" if required else "", text.rstrip("."), "; ".join(limits(schema)))
    return ". ".join(part[0].upper() + part[1:] for part in parts if part)


def parameter_kind(schema: Schema) -> str:
    """The type of a parameter. `null` stands for its absence: nobody can send it."""
    return kind(schema).removesuffix(" or null")


def fields(schema: Schema) -> Iterator[str]:
    """The table of a model's fields."""
    required = schema.get("required", ())
    yield from table(
        ("field", "type", "meaning"),
        (
            (f"`{name}`", kind(one), meaning(one.get("description", ""), one, required=name in required))
            for name, one in schema.get("properties", {}).items()
        ),
    )


def bodies(content: dict[str, Any]) -> str:
    """What a body may be: types of media and models. A framework's placeholder for JSON without a model is left out."""
    kinds = {media: kind(one["schema"]) for media, one in content.items() if one.get("schema")}
    return ", ".join(shown if media == "application/json" else f"`{media}`: {shown}" for media, shown in kinds.items())


def section(operation: Operation, models: dict[str, Schema]) -> Iterator[str]:
    """One operation: its description, parameters, body and answers."""
    spec = operation.spec
    yield from (f"## {operation.heading} {{: #{operation.anchor} }}", "", f"`{operation.method} {operation.path}`", "")
    yield from (spec.get("description", ""), "")
    if spec.get("security") == []:
        yield from ("Needs no token.", "")
    yield from table(
        ("parameter", "in", "type", "meaning"),
        (
            (
                f"`{one['name']}`",
                one["in"],
                parameter_kind(one["schema"]),
                meaning(one.get("description", ""), one["schema"], required=one.get("required", False)),
            )
            for one in spec.get("parameters", ())
            if one["name"] != "system_name"
        ),
    )
    if content := spec.get("requestBody", {}).get("content"):
        yield from ("", f"Body: {bodies(content)}", "")
        for one in content.values():
            yield from fields(models.get(one["schema"].get("$ref", "").rpartition("/")[2], {}))
    answers = ((status, one) for status, one in sorted(spec["responses"].items()) if not status.endswith("XX"))
    yield from table(
        ("status", "meaning", "body"),
        (
            (status, one["description"].replace("Successful Response", "Success"), bodies(one.get("content", {})))
            for status, one in answers
        ),
    )
    yield ""


def pages(api: dict[str, Any]) -> dict[str, str]:
    """Every page of the reference: its Markdown by its file name."""
    models: dict[str, Schema] = api["components"]["schemas"]
    order = [page for page, _, _ in PAGES]
    every = sorted(operations(api), key=lambda one: order.index(one.page))
    overview = (
        f"| [`{one.method} {one.path}`]({one.page}.md#{one.anchor}) | {cell(one.spec.get('description', ''))} |"
        for one in every
    )
    made = {"index.md": INTRODUCTION + "\n".join(overview) + "\n"}
    for page, title, _ in PAGES:
        lines = [line for one in every if one.page == page for line in section(one, models)]
        made[f"{page}.md"] = "\n".join((f"# {title}", "", *lines))
    made["models.md"] = "\n".join(
        ("# Models", "", "The JSON objects of requests and answers.", "", *all_models(models)),
    )
    made["openapi.json"] = json.dumps(api, indent=1)
    return made


def all_models(models: dict[str, Schema]) -> Iterator[str]:
    """Each model with its fields, or what it is if it has none."""
    for name, schema in sorted(models.items()):
        yield from (f"## {name} {{: #{name.lower()} }}", "", schema.get("description", ""), "")
        yield from fields(schema) if "properties" in schema else (kind(schema),)
        yield ""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages to the site."""
    for name, text in pages(document()).items():
        files.append(File.generated(config, f"api/{name}", content=text))
    return files
