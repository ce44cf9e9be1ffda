"""Hostile input: alias bombs, tags, depth, size, invalid numbers and characters. Each results in an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flamecrest.server.settings import Problem, SettingsError, load

Problems = Callable[..., list[Problem]]

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = "m0: &m0 {x: 1, y: 1}\n" + "".join(
    f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (LAUGHS, "aliases included"),
        (MERGES, "aliases included"),
        ("a: &a [*a]\n", "aliases included"),
        ("a: &a {b: *a}\n", "aliases included"),
        ("a: &a {<<: *a}\n", "aliases included"),
        ("a: " + "[" * 100_000, "levels deep"),
        ("a: " + "{a: " * 1000, "levels deep"),
        ("\n".join(f"{' ' * n}a:" for n in range(500)), "levels deep"),
        ("- " * 5000 + "x", "levels deep"),
        ("a: !!python/object/apply:os.system [id]\n", "contains a tag"),
        ("a: !!python/name:os.system x\n", "contains a tag"),
        ("!!python/object/new:os.system {a: b}\n", "contains a tag"),
        ("a: !!binary aGk=\n", "contains a tag"),
        ("a: !!set {x, y}\n", "contains a tag"),
        ("a: !x!y z\n", "contains a tag"),
        ("%TAG ! tag:yaml.org,2002:python/\n---\na: !object:x.y {}\n", "contains a tag"),
        ("a: b\0c\n", "control character"),
        ("a: \x1b[2J\n", "control character"),
        ('a: "b\\0c"\n', "contains an invalid character"),
        ('"a\\0": b\n', "a key must be a string"),
        ('a: "\\ud800"\n', "contains an invalid character"),
        ("? [a, b]\n: c\n", "a key must be a string"),
        ("? {a: b}\n: c\n", "a key must be a string"),
        ("<<: 5\n", "must refer to a mapping"),
        ("a: " + "x" * (1024 * 1024), "is larger than"),
        ("{" + ", ".join(f"k{n}: {{a: [1, 2]}}" for n in range(30_000)) + "}", "more than 25000 values"),
        ("{" + ", ".join(f"k{n}: 1" for n in range(5000)) + "}", "4801 more problems"),
    ],
)
def test_a_bomb_is_one_clear_problem(problems: Problems, text: str, wrong: str) -> None:
    found = problems(text)
    assert any(wrong in problem.message for problem in found), [str(problem)[:200] for problem in found[:5]]
    assert all(len(str(problem)) < 1000 for problem in found)


@pytest.mark.parametrize(
    "number",
    ["9" * 5000, "-" + "9" * 5000, "1e400", "-1e400", "1e-400", ".nan", ".inf", "0x" + "f" * 4000, "1_0_0_0_0_0",
     "22:22", "0b11", "0o7777777", "022", "1__", "+", "1.5.5", "", "~", "2001-01-01", "\uff11\uff12", "\u0663"],
)  # fmt: skip
def test_numbers(tmp_path: Path, number: str) -> None:
    """A number or an error; leading zeros and base 60 are not accepted for a port."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "auth: {authentication: {issuer: https://id.example.org}}\nssh_credentials: {url: https://keys.example.org}\n"
        f"server:\n  port: {number}\n  shutdown_timeout: {number}\n"
        f"data_operation:\n  max_ops_file_size: {number}\n"
    )
    try:
        found = load(path, {})
    except SettingsError as error:
        found_in = {problem.location.line for problem in error.problems}
        longest = max(len(str(problem)) for problem in error.problems)
        assert (found_in <= {4, 5, 7}, longest < 400) == (True, True)
    else:
        assert 1 <= found.server.port <= 65535
        assert 0 < found.server.shutdown_timeout < 1e9


def test_a_key_is_shown_on_one_line_and_cut(problems: Problems) -> None:
    found = problems(f'"{"k" * 500}": 1\n"a\\nb\\e[31m": 2\n')
    keys = [problem.key for problem in found]
    assert f"{'k' * 57}…" in keys
    assert "a?b?[31m" in keys


def test_a_path_of_clusters_with_strange_characters(problems: Problems) -> None:
    for path in ("~nobody-of-that-name/x", "x" * 300, "/dev/null", "\U0001f525"):
        found = problems(f'clusters: "path:{path}"\n')
        assert any(problem.key == "clusters" and "cannot be read" in problem.message for problem in found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=50)
@given(
    text=st.text(max_size=60)
    | st.text("{}[]:,-&*!|>%@`'\"#?<~ \n\tab01", max_size=60).map(lambda text: f"auth: {text}")
    | st.recursive(
        st.sampled_from(["x", "1", "~", "yes", "*a", "&a x", "!t x"]),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
            | st.dictionaries(
                st.sampled_from(["auth", "authentication", "clusters", "ssh", "name", "keys", "type", "<<", "server"]),
                inner,
                max_size=3,
            ).map(lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}")
        ),
        max_leaves=8,
    )
)
def test_any_text_is_settings_or_problems(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, "utf-8", errors="surrogatepass")
    try:
        load(path, {})
    except SettingsError as error:
        assert error.problems  # noqa: PT017
