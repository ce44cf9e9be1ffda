"""Import circles of the project's modules. Type-only imports and imports inside functions count as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("bench", "flamecrest.cli", "flamecrest.sandbox", "flamecrest.server", "flamecrest.wire")


def modules(source: Path, package: str) -> Mapping[str, Path]:
    """The modules below the directory of a package, by their full names."""
    found = {}
    for path in sorted((source / package).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def statements(block: ast.AST) -> Iterator[ast.AST]:
    """The statements in a module or another statement, at any depth. ast.walk would visit all expressions, too."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        for node in getattr(block, field, ()):
            yield node
            yield from statements(node)


def imported(name: str, path: Path) -> Iterator[str]:
    """The full names that a module imports: of modules, and of what may be a module or an attribute of one."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in statements(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def graph(found: Mapping[str, Path]) -> dict[str, set[str]]:
    """The modules among `found` that each module imports."""
    edges: dict[str, set[str]] = {}
    for name, path in found.items():
        names = (wanted if wanted in found else wanted.rpartition(".")[0] for wanted in imported(name, path))
        edges[name] = {wanted for wanted in names if wanted in found}
    return edges


def circles(edges: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """The strongly connected components that hold more than one module, or one that imports itself."""
    reached = {name: reachable(edges, name) for name in edges}
    return {
        frozenset(other for other in reached[name] if name in reached[other]) for name in edges if name in reached[name]
    }


def reachable(edges: Mapping[str, set[str]], start: str) -> set[str]:
    """The modules that `start` imports directly or indirectly."""
    found: set[str] = set()
    pending = [start]
    while pending:
        new = edges[pending.pop()] - found
        found |= new
        pending += new
    return found


@pytest.fixture(scope="module")
def project() -> set[frozenset[str]]:
    return circles(graph({**modules(ROOT / "src", "flamecrest"), **modules(ROOT, "bench")}))


@pytest.mark.parametrize("room", ROOMS)
def test_room_has_no_import_circle(project: set[frozenset[str]], room: str) -> None:
    assert [sorted(circle) for circle in project if any(f"{name}.".startswith(f"{room}.") for name in circle)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_room_exists(room: str) -> None:
    source = ROOT / ("" if room == "bench" else "src")
    assert any(f"{name}.".startswith(f"{room}.") for name in modules(source, room.partition(".")[0]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("from .two import b", "from .one import a"),
        ("from . import two", "from p import one"),
        ("import p.two", "if TYPE_CHECKING:\n    from p.one import a"),
        ("def later():\n    from .two import b", "from .one import a"),
        ("try:\n    pass\nexcept OSError:\n    import p.two", "match 1:\n    case 1:\n        import p.one"),
        ("while x:\n    pass\nelse:\n    import p.two", "try:\n    pass\nfinally:\n    import p.one"),
    ],
)
def test_circle_of_two_modules_is_found(tmp_path: Path, first: str, second: str) -> None:
    write(tmp_path, {"__init__": "", "one": first, "two": second, "three": "from . import one"})
    assert circles(graph(modules(tmp_path, "p"))) == {frozenset({"p.one", "p.two"})}


def test_package_and_its_submodule_form_a_circle_when_each_imports_from_the_other(tmp_path: Path) -> None:
    write(tmp_path, {"__init__": "from .one import a", "one": "from . import a"})
    assert circles(graph(modules(tmp_path, "p"))) == {frozenset({"p", "p.one"})}


def test_layers_without_a_circle_pass(tmp_path: Path) -> None:
    write(tmp_path, {"__init__": "from .one import a", "one": "from .two import b", "two": "import os"})
    assert circles(graph(modules(tmp_path, "p"))) == set()


def write(folder: Path, sources: Mapping[str, str]) -> None:
    (folder / "p").mkdir()
    for name, source in sources.items():
        (folder / "p" / f"{name}.py").write_text(source, "utf-8")
