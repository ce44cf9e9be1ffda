"""Joins modules of this package to the text of one program, without docstrings, comments and annotations."""

from __future__ import annotations

import ast
from functools import cache
from importlib import resources
from typing import TypeVar

T = TypeVar("T", ast.FunctionDef, ast.ClassDef)


@cache
def assemble(*modules: str) -> str:
    """The program that has the content of all modules, in this order, and then calls `main()`.

    Names of the top level are shared, so they must differ. Imports from this package, and those for types, are removed.
    """
    folder = resources.files(__package__)
    statements: list[ast.stmt] = []
    for name in modules:
        source = folder.joinpath(f"{name}.py").read_text(encoding="utf-8")
        statements += _Plain().visit(ast.parse(source)).body
    program = ast.unparse(ast.Module([*statements, *ast.parse("main()").body], []))
    if not program.isascii():
        raise ValueError(f"a program for compute nodes must be ASCII: {modules}")
    return program + "\n"


class _Plain(ast.NodeTransformer):
    def visit_Module(self, node: ast.Module) -> ast.Module:
        self.generic_visit(node)
        node.body = _without_docstring(node.body)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            argument.annotation = None
        for rest in (arguments.vararg, arguments.kwarg):
            if rest is not None:
                rest.annotation = None
        node.returns = None
        return self._body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        return self._body(node)

    def _body(self, node: T) -> T:
        self.generic_visit(node)
        node.body = _without_docstring(node.body) or [ast.Pass()]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.Assign | None:
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if node.level or node.module in ("__future__", "typing") else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    described = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if described else body
