"""Hostile values by kind of field: invalid ones, and unusual valid ones that must do no harm."""

from __future__ import annotations

import re
from typing import Any

from .hostile_operations import Field, Raw

# Kinds of string fields by name; other kinds follow from the schema.
PATHS = frozenset({"path", "sourcePath", "targetPath", "linkPath"})  # within the configured file systems
PLACES = frozenset({"workingDirectory", "scriptPath"})  # absolute, anywhere: the cluster's permissions apply to jobs
OUTPUTS = frozenset({"standardInput", "standardOutput", "standardError"})  # patterns of the scheduler, also relative
WORDS = frozenset({"owner", "group"})
GLOBS = frozenset({"glob"})  # any bytes are valid in a name, so also in patterns for names
NULL_IS_EMPTY = frozenset({"owner", "group"})

FEW = 9
MEGABYTE = "x" * 1_000_000
DEEP: Any = "deep"
for _ in range(100):
    DEEP = [DEEP]

NO_TEXT: list[Any] = [5, -1, 1.5, 2**80, True, False, [], ["a"], {}, {"a": {"b": []}}, DEEP]
NO_JSON = [Raw('"\\ud800"'), Raw("NaN"), Raw("1e400")]
CONTROL = ["\0", "a\nb", "\x1b[31mred", "a\x7f", "a\r\n#SBATCH --comment=pwned"]


def kind_of(field: Field) -> str:
    """The kind of a field."""
    first = field.kinds[0]
    types = {kind.get("type") for kind in field.kinds}
    if field.place == "header":
        return "header"
    if field.place == "path":
        return "job_id" if field.name == "job_id" else "name"
    if "pattern" in first:
        return "pattern"
    if any("enum" in kind or "const" in kind for kind in field.kinds):
        return "enum"
    if types == {"string"}:
        for names, kind in ((PATHS, "path"), (PLACES, "place"), (OUTPUTS, "output"), (WORDS, "word"), (GLOBS, "glob")):
            if field.name in names:
                return kind
        return "word" if "maxLength" in first and first["maxLength"] <= 255 else "text"
    if types == {"object", "array"}:
        return "env"
    if types <= {"object", None} and ("properties" in first or "discriminator" in first):
        return "object"
    (only,) = types
    return str(only)


def injections(canary: str) -> list[str]:
    """Valid names that run commands where quoting is missing, the most dangerous first."""
    return [
        f"$(touch {canary})",
        f"'; touch {canary}; '",
        f"--output={canary}",
        f'"; touch {canary}; "',
        f"`touch {canary}`",
        f"| touch {canary} #",
        f"${{IFS}}touch${{IFS}}{canary};",
        "-rf",
        "\u202egpj.exe p\u0430th",
        "%s%n%25%41{account}",
        "*?[a-z]{a,b}\\",
        "\N{FIRE}e\u0301\u2028",
    ]


def refused(field: Field, root: str, away: str) -> list[Any]:
    """Invalid values for this kind. `root` is a file system, `away` an absolute path outside all of them."""
    kind = kind_of(field)
    if field.place != "body":
        return _refused_texts(field, kind, root, away)
    null = [] if field.nullable or field.name in NULL_IS_EMPTY else [None]
    texts = _refused_texts(field, kind, root, away)
    match kind:
        case "boolean":
            own: list[Any] = [2, -1, 1.5, 2**80, [], ["a"], {}, DEEP]
        case "integer":
            own = [-1, 1.5, 2**63, 2**80, -(2**80), [], ["a"], {}, DEEP]
        case "number":
            own = [-1, -0.5, [], ["a"], {}, DEEP]
        case "array":
            own = [5, True, "x", {}, {"0": "x"}, [5], [[]], [None], [], ["x"] * 20_000, DEEP]
        case "env":
            bad_names = ["", "1a", "A B", "A\n", "A=B", "$(id)", "\u00c4", "A\0"]
            own = [5, True, "x", "A=1", ["novalue"], [5], [["A=1"]], ["=x"], ["A=\0"]]
            own += [{name: "x"} for name in bad_names]
            own += [{"A": 5}, {"A": None}, {"A": ["x"]}, {"A": {"B": "x"}}, {"A": "\0"}, {"A": DEEP}]
        case "object":
            own = [5, True, "x", "", [], ["a"], DEEP, MEGABYTE]
        case _:
            own = NO_TEXT
    return own + null + texts + NO_JSON


def _refused_texts(field: Field, kind: str, root: str, away: str) -> list[Any]:  # noqa: C901 -- a table
    huge = ["x" * 10_000, MEGABYTE if field.place == "body" else "x" * 60_000]
    match kind:
        case "boolean":
            return ["", "maybe", "2", "null", "[]", "\0", "1e400", "tru\u0435", "true\n#", *huge]
        case "integer":
            numbers = [
                "",
                "x",
                "1.5",
                "NaN",
                "inf",
                "1e400",
                "0x10",
                "\0",
                "-1",
                "9" * 4000,
                str(2**63),
                "\u0661",
                "1,5",
            ]
            return numbers + ([] if field.place == "body" else huge)
        case "number":
            return ["", "x", "nan", "\0", "-1", "0x10", "1,5", "9" * 4000 + "e"]
        case "pattern":
            fits = re.compile(field.kinds[0]["pattern"]).search
            return [one for one in ["$(id)", "\0", "a\nb", "\u0661", "-rf;", *huge] if not fits(one)]
        case "enum":
            return ["", "nosuch", "\0", "GZIP", "gzip\n", "\u202egzip", "gz\u0456p", "$(id)", *huge]
        case "path":
            climbing = f"{root}/../../../../../../../..{away}"
            outside = [away, "/", "//", climbing, f"{root}{away[1:]}", f"/.{root}/../..{away}", f"//{away}"]
            return [*outside, "", "file", "../file", "~/file", "\0", f"{root}/a\0b", *("/" + one for one in huge)]
        case "place":
            return ["", "file", "../file", "~/file", "\0", f"{root}/a\0b", *("/" + one for one in huge)]
        case "output":
            return ["\0", "a\0b", *huge]
        case "word":
            return [*CONTROL, *huge]
        case "text":
            return ["\0", "a\0b"]
        case "job_id":
            return [
                "--help",
                "-1",
                "$(id)",
                "1;id",
                "1 2",
                " 1",
                "1\n",
                "\0",
                "1\0",
                "\u0661",
                "_",
                "[1]",
                "9" * 129,
                *huge,
            ]
    return []


def legal(field: Field, folder: str, canary: str, *, most: int) -> list[Any]:
    """Valid values, with the `most` most dangerous injections (fewer where each starts programs)."""
    kind = kind_of(field)
    null = [None] * (field.place == "body" and (field.nullable or field.name in NULL_IS_EMPTY))
    if most < FEW and kind in {"boolean", "enum"}:
        return _legal(field, kind, folder, [], canary)[:1]
    return null + _legal(field, kind, folder, injections(canary)[:most], canary)


def _legal(field: Field, kind: str, folder: str, strings: list[str], canary: str) -> list[Any]:  # noqa: C901 -- a table
    names = [*strings, "new\nline\ttab", os_name(b"\xff\xfe")]
    match kind:
        case "enum":
            return [word for one in field.kinds for word in one.get("enum", [one.get("const")])]
        case "boolean":
            return ["true", "False", "1", "off"] + ([0, 1] if field.place == "body" else [])
        case "number":
            return ["1", "0.5", "1e400", "inf", "1e-400", str(2**62)]
        case "header":
            odd = ["", "x" * 10_000, os_name(b"\xff"), "-1", "9" * 99, "1.0.0, 1.0.0", "a b,c d,e"]
            return [one for one in strings if one.isascii()] + odd
        case "array":
            return [[""], [f"{folder}/{name}" for name in texts_only(names)], [{}], [{"path": "x"}] * 2]
        case "integer":
            return ["1", "0", "5242880", str(2**62)] + ([7] if field.place == "body" else [])
        case "path" | "place" | "output":
            long = ["n" * 300, "n" * 255, "/".join(["d"] * 100)][: max(1, len(strings) - 1)]
            paths = [f"{folder}/{name}" for name in [*names, *long]]
            relative = strings if kind == "output" else []
            odd = [f"{folder}//./none/../none/", "/nonexistent/" + canary] if kind != "path" else [f"{folder}//./none"]
            return [*(texts_only(paths) if field.place == "body" else paths), *relative, *odd]
        case "word":
            return ["", *(strings if field.place == "body" else [*strings, os_name(b"\xff")]), "x" * 255]
        case "text" | "glob" | "pattern":
            return [
                *strings,
                "",
                "(",
                "[",
                "a\nb\r\n\x1b[31m",
                f"\n#SBATCH --output={canary}\n",
                MEGABYTE if field.place == "body" else "x" * 9000,
            ]
        case "env":
            values = [*strings, "a\nb\r\n\x1b", 'quote"', "'", "a,b=c", "x" * 100_000, MEGABYTE]
            every = {f"V{number}": text for number, text in enumerate(values[:-1])}
            return [{}, [], every, [f"A={text}" for text in values[:-1]], {"A": MEGABYTE}, {"BASH_ENV": canary}]
        case "name":
            return [*strings[:1], "\0", "a/b", "cluster-s\u0131urm-ssh", os_name(b"\xff"), "\r\nX: y"]
        case "job_id":
            ids = ["4294900000", "4294900000_4", "4294900000[1-5]", "4294900000.server", "4294900000+1", "0", "1" * 128]
            odd = ["a", "4294900000_[1-3%2]", "4294900000,4294900001", "4294900000[1-999999999]", "4294900000[5-1]"]
            return ids + odd
    return []


def os_name(raw: bytes) -> str:
    """A name of arbitrary bytes, with surrogate escapes."""
    return raw.decode("utf-8", "surrogateescape")


def texts_only(values: list[str]) -> list[str]:
    """The values that JSON can represent."""
    return [value for value in values if value.isascii() or value == value.encode("utf-8", "replace").decode()]
