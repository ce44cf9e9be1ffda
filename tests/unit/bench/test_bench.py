"""Verdicts and tables."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from bench.columns import CURL, GATEWAY, OPENSSH, OTHER, REST
from bench.measure import load
from bench.report import markdown, tables
from bench.report.document import ReportDocument
from bench.results import Cell, Results
from bench.targets import TARGETS, Target, comparison, judge
from bench.workloads.catalogue import WORKLOADS
from bench.workloads.throughput import ListingThroughput, ReadThroughput
from hypothesis import given
from hypothesis import strategies as st

SLOWER = Target("twice", ("w", GATEWAY, "seconds", 1), ("w", "0", "seconds", 1), "at most", 2.0)
FASTER = Target("faster", ("w", "a", "seconds", 1), ("w", GATEWAY, "seconds", 1), "at least", 3.0)
SMALL = Target("small", ("memory", GATEWAY, "MiB", 0), None, "at most", 120, "MiB")


def results(*cells: Cell) -> Results:
    return Results(list(cells))


def cell(contender: str, *samples: float, note: str = "", errors: int = 0) -> Cell:
    return Cell("w", contender, "seconds", 1, samples, note, errors)


def test_ratio_of_means_equal_to_the_limit_is_met() -> None:
    measured = results(cell(GATEWAY, 1.0, 3.0), cell("0", 1.0), cell("a", 6.0))
    assert judge(SLOWER, measured).value == 2.0
    assert judge(SLOWER, measured).passed is True
    assert judge(FASTER, measured).value == 3.0
    assert judge(FASTER, measured).passed is True


def test_target_beyond_its_limit_is_missed() -> None:
    measured = results(cell(GATEWAY, 2.1), cell("0", 1.0), cell("a", 6.0))
    assert judge(SLOWER, measured).passed is False
    assert judge(FASTER, measured).passed is False


def test_target_without_a_divisor_compares_the_value_itself() -> None:
    assert judge(SMALL, results(Cell("memory", GATEWAY, "MiB", 0, (119.0,)))).passed is True
    assert judge(SMALL, results(Cell("memory", GATEWAY, "MiB", 0, (121.0,)))).passed is False


@pytest.mark.parametrize("there", [GATEWAY, "0"])
def test_target_is_not_judged_when_one_side_was_not_measured(there: str) -> None:
    assert judge(SLOWER, results(cell(there, 1.0))).passed is None


def test_target_is_not_judged_when_the_other_side_had_no_good_answer() -> None:
    verdict = judge(SLOWER, results(cell(GATEWAY, 1.0), cell("0", 0.0, errors=5)))
    assert (verdict.passed, verdict.value, verdict.note) == (None, None, "not measured")


def test_target_that_depends_on_sshd_is_not_judged_on_the_sandbox() -> None:
    promise = replace(FASTER, of_sshd=True)
    measured = results(cell(GATEWAY, 1.0), cell("a", 2.0))
    assert judge(promise, measured).passed is False
    assert judge(promise, measured, sandbox=True).passed is None
    assert judge(FASTER, measured, sandbox=True).passed is False


def test_target_with_wrong_responses_is_missed() -> None:
    verdict = judge(SLOWER, results(cell(GATEWAY, 0.1, errors=2), cell("0", 1.0)))
    assert verdict.passed is False
    assert "2 wrong responses" in verdict.note


def test_verdict_notes_extrapolation() -> None:
    verdict = judge(FASTER, results(cell(GATEWAY, 1.0), cell("a", 90.0, note="extrapolated from less")))
    assert "extrapolated from less" in verdict.note


def test_every_target_names_a_contender_of_its_workload() -> None:
    names = {workload.name: {*workload.needs, GATEWAY, OPENSSH, REST, CURL} for workload in WORKLOADS}
    names["cold"].add("c")  # which it starts itself
    for target in TARGETS:
        for at in (target.of, target.by):
            assert at is None or at[1] in names[at[0]]


def test_result_line_is_found_in_the_output_of_wrk() -> None:
    output = (
        "Running 3s test @ http://127.0.0.1:1\n  1 threads and 64 connections\n"
        'RESULT {"requests": 3000, "microseconds": 1500000, "p50": 1500, "p99": 20250, "wrong": 3}\n'
    )
    assert load.burst(output) == load.Burst(requests=3000, rate=2000.0, p50=1.5, p99=20.25, wrong=3)


def test_output_of_wrk_without_a_result_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="unable to connect"):
        load.burst("unable to connect to 127.0.0.1:1 Connection refused")


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_three_digits_of_a_number_are_shown(number: float) -> None:
    assert float(tables.significant(number)) == pytest.approx(number, rel=0.006)


def test_table_shows_means_deviations_and_ratios() -> None:
    workload = ReadThroughput("stat", "Metadata", (64,))
    measured = results(
        Cell("stat", "c", "requests/s", 1, (20.0,)),
        Cell("stat", "c", "requests/s", 64, (100.0, 100.0)),
        Cell("stat", GATEWAY, "requests/s", 64, (900.0, 1100.0)),
        Cell("stat", "0", "requests/s", 64, (4000.0,), "", 7),
    )
    lines = markdown.section(workload, measured).splitlines()
    row = next(line for line in lines if line.startswith("| 64 "))
    assert row == "| 64 | 100 ± 0 | 1000 ± 141 | 4000* | 10.0 | 0.25 |"
    assert any("(0), 64: 7 wrong responses" in line for line in lines)


def test_quantities_with_one_row_each_share_a_table() -> None:
    measured = results(
        Cell("ls", "c", "requests/s", 16, (10.0,)),
        Cell("ls", GATEWAY, "requests/s", 16, (40.0,)),
        Cell("ls", GATEWAY, "ms p50", 16, (5.0,)),
    )
    (table,) = tables.tables_of(ListingThroughput("ls", "Lists", (16,), 1), measured)
    assert table.heads[0] == "16 connections"
    assert [list(row) for row in table.rows] == [["requests/s", "10.0", "40.0", "4.00"], ["ms p50", "", "5.00", ""]]


def test_ratio_of_zeros_is_left_empty() -> None:
    workload = ReadThroughput("network", "Wire", (1,))
    none = results(Cell("network", "c", "channels", "ls", (0.0,)), Cell("network", GATEWAY, "channels", "ls", (0.0,)))
    (table,) = tables.tables_of(workload, none)
    assert list(table.rows[0]) == ["channels", "0", "0", ""]


def test_target_with_sense_below_is_missed_at_its_limit() -> None:
    strict = replace(SMALL, sense="below")
    assert judge(strict, results(Cell("memory", GATEWAY, "MiB", 0, (119.9,)))).passed is True
    assert judge(strict, results(Cell("memory", GATEWAY, "MiB", 0, (120.0,)))).passed is False


def test_workload_without_cells_is_not_measured() -> None:
    assert "Not measured." in markdown.section(ReadThroughput("stat", "Metadata", (64,)), results())


def test_json_contains_every_sample_and_verdict() -> None:
    measured = results(cell(GATEWAY, 1.0, 3.0), cell("0", 2.0))
    document = ReportDocument((), "here", quick=False, results=measured, verdicts=[judge(SLOWER, measured)])
    again = json.loads(json.dumps(document.as_json()))
    assert again["cells"][0]["samples"] == [1.0, 3.0]
    assert again["cells"][0]["deviation"] == pytest.approx(2**0.5)
    assert again["targets"][0]["passed"] is True


def test_comparison_has_a_target_for_each_row_of_a_main_quantity() -> None:
    measured = results(
        Cell("stat", GATEWAY, "requests/s", 64, (90.0, 300.0, 50.0)),
        Cell("stat", OTHER, "requests/s", 64, (100.0, 100.0, 100.0)),
        Cell("stat", GATEWAY, "ms p99", 64, (5.0,)),
        Cell("sizes", GATEWAY, "ms", 16, (2.0,)),
        Cell("sizes", OTHER, "ms", 16, (3.0,)),
    )
    rate, time = (judge(target, measured) for target in comparison(measured))
    assert (rate.value, rate.passed) == (0.9, False)  # the median of the ratios of each turn
    assert rate.note == "half of 3 turns between 0.70 and 1.95"
    assert (time.value, time.passed) == (1.5, True)


def test_comparison_without_the_other_checkout_is_not_judged() -> None:
    measured = results(Cell("stat", GATEWAY, "requests/s", 64, (90.0,)))
    assert [judge(target, measured).passed for target in comparison(measured)] == [None]
