"""The chain of audit records: every cut and every change shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flamecrest.cli.main import app
from flamecrest.server.audit.chain import Chain, Report, hash_of, verify


def chained(count: int, chain: Chain | None = None, *, stop: bool = True) -> list[bytes]:
    chain = chain or Chain()
    lines = [chain.seal({"event": "start"})]
    lines += [chain.seal({"event": "call", "user": f"user{number}"}) for number in range(count)]
    return [*lines, chain.seal({"event": "stop"})] if stop else lines


def check(lines: Sequence[bytes], key: bytes = b"", *, partial: bool = False) -> Report:
    return verify(((f"line {at}", line) for at, line in enumerate(lines, 1)), key, partial=partial)


def test_a_whole_chain() -> None:
    lines = chained(3)
    report = check(lines)
    assert (report.records, report.problems, report.notes, report.last) == (5, [], [], hash_of(lines[-1]))


@pytest.mark.parametrize("at", range(4))
def test_a_line_that_is_missing(at: int) -> None:
    lines = chained(3)
    del lines[at]
    assert len(check(lines).problems) == 1


def test_a_cut_end_is_noted() -> None:
    report = check(chained(3)[:-2])
    assert report.problems == []
    assert "has no end after record 2" in report.notes[0]


@pytest.mark.parametrize(("old", "new"), [(b"user1", b"user2"), (b'"seq":2', b'"seq":3'), (b"call", b"CALL")])
def test_a_changed_line(old: bytes, new: bytes) -> None:
    lines = chained(3)
    assert old in lines[2]
    lines[2] = lines[2].replace(old, new)
    assert "line 3: the line was changed, or has another key" in check(lines).problems


def test_changed_lines_are_the_only_problems_and_all_lines_are_counted() -> None:
    lines = chained(6)
    for at in (0, 2, 3, 7):
        lines[at] = lines[at].replace(b'"event":"', b'"event":"x')
    report = check(lines)
    assert report.problems == [f"line {at}: the line was changed, or has another key" for at in (1, 3, 4, 8)]
    assert (report.lines, report.records) == (8, 4)
    del lines[3]
    assert any("has record 4 after 2" in problem for problem in check(lines).problems)


@pytest.mark.parametrize("seq", [b"null", b'"2"', b"[[]]", b"2.5", b"1e999", b"-1", b"9" * 5000])
def test_the_number_of_a_changed_line_is_hostile(seq: bytes) -> None:
    lines = chained(3)
    lines[2] = lines[2].replace(b'"seq":2', b'"seq":' + seq)
    assert "line 3: the line was changed, or has another key" in check(lines).problems


def test_a_changed_line_with_a_new_hash() -> None:
    lines, forged = chained(3), Chain()
    forged.name, forged.seq, forged.prev = json.loads(lines[1])["chain"], 1, str(hash_of(lines[0]))
    lines[1] = forged.seal({"event": "call", "user": "innocent"})
    assert check(lines).problems == [f"line 3: chain {forged.name} is broken before record 2"]


def test_a_new_hash_needs_the_key() -> None:
    lines = chained(1, Chain(b"key"))
    assert check(lines, b"key").problems == []
    assert len(check(lines, b"other").problems) == len(check(lines).problems) == 3


def test_swapped_and_repeated_lines() -> None:
    one, two, three, *rest = chained(3)
    assert check([one, three, two, *rest]).problems
    assert check([one, two, two, three, *rest]).problems


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b"\xff\xfe\n", b'{"hash":"', b'{"a":1,"hash":"zz"}\n', b"x" * 100_000]
)
def test_what_is_no_line(line: bytes) -> None:
    lines = chained(1)
    report = check([lines[0], line, *lines[1:]])
    assert (report.records, len(report.problems)) == (3, 1)


def test_two_processes_in_one_file() -> None:
    one, two = Chain(), Chain()
    lines = [one.seal({"event": "start"})]
    two.prev = str(hash_of(lines[0]))
    lines += [two.seal({"event": "start"}), one.seal({"event": "call"}), two.seal({"event": "stop"})]
    lines.append(one.seal({"event": "stop"}))
    assert check(lines).problems == []
    assert check(lines[1:]).problems == [
        f"line 1: chain {two.name} follows a line that is missing",
        f"line 2: chain {one.name} begins with record 1: earlier lines are missing",
    ]
    assert check(lines[1:], partial=True).problems == []


def test_hostile_values_stay_in_their_line() -> None:
    hostile = [
        '"}\n{"event":"call"}',
        ',"hash":"' + "0" * 64 + '"}',
        "\ud800",
        "\u202eabc",
        "\x1b[2J",
        "\x00",
        "a" * 10,
    ]
    chain = Chain()
    lines = [chain.seal({"event": "start"}), chain.seal({"event": "call", "paths": hostile, "user": hostile[0]})]
    assert lines[1].count(b"\n") == 1
    assert lines[1].isascii()
    assert not any(byte < 32 for byte in lines[1][:-1])
    assert json.loads(lines[1])["paths"] == hostile
    assert check(lines).problems == []


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["audit", "verify", *arguments])
    return result.exit_code, result.output


def test_the_command(tmp_path: Path) -> None:
    first, second, key = tmp_path / "a.1", tmp_path / "a", tmp_path / "key"
    lines = chained(5, Chain(b"k"))
    first.write_bytes(b"".join(lines[:4]))
    second.write_bytes(b"".join(lines[4:]))
    key.write_text("k\n")
    with_key = ("--key-file", str(key))
    last = hash_of(lines[-1])
    assert run(*with_key, str(first), str(second)) == (
        0,
        f"7 records in 1 chain, none missing or changed; last: {last}\n",
    )
    assert run(*with_key, "--expect", str(last), str(first), str(second))[0] == 0
    assert run(*with_key, "--partial", str(second))[0] == 0
    for wrong in ((str(first), str(second)), (*with_key, str(second)), (*with_key, str(second), str(first))):
        assert run(*wrong)[0] == 1
    for options, message in ((), "give its file with --key-file"), (("--key-file", str(first)), "has another key"):
        code, output = run(*options, str(first), str(second))
        assert (code, message in output.replace("\n", " "), len(output.splitlines())) == (1, True, 1), output
    second.write_bytes(b"".join(lines[4:-1]))
    code, output = run(*with_key, "--expect", str(last), str(first), str(second))
    assert code == 1
    assert f"no line has the hash {last}" in output.replace("\n", " ")
    assert run(str(tmp_path / "none"))[0] == 1
