"""Sets of array elements, against Python's own sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.schedulers.array_elements import MAX_ARRAY_ELEMENTS, ArrayElements, ArrayPlace

sets = st.sets(st.integers(0, 300), max_size=40)


def elements(numbers: set[int]) -> ArrayElements:
    return ArrayElements.parse(",".join(map(str, sorted(numbers)))) if numbers else ArrayElements()


def numbers(value: ArrayElements) -> set[int]:
    return {number for number in range(1000) if number in value}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", {0}),
        ("2-4%2", {2, 3, 4}),
        ("1,3,5-7", {1, 3, 5, 6, 7}),
        ("0-9:3", {0, 3, 6, 9}),
        ("0-8:3,20-90:35%1", {0, 3, 6, 20, 55, 90}),
        ("5-5", {5}),
        ("7-8:500", {7}),
    ],
)
def test_reads_what_slurm_writes(text, expected):
    assert numbers(ArrayElements.parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "1,",
        "5-1",
        "1-2-3",
        "-1",
        "1-4:0",
        "1,3,...",
        "0-99999999",
        f"0-{MAX_ARRAY_ELEMENTS}",
        "1 - 2",
        "٣",
        "1;rm",
        "%2",
    ],
)
def test_refuses_what_is_no_set(text):
    with pytest.raises(ValueError, match="array elements"):
        ArrayElements.parse(text)


def test_millions_of_elements_are_cheap():
    everything = ArrayElements.parse(f"0-{MAX_ARRAY_ELEMENTS - 1}")
    third = ArrayElements.parse(f"0-{MAX_ARRAY_ELEMENTS - 1}:3")
    assert len(everything) == MAX_ARRAY_ELEMENTS
    assert len(third) == (MAX_ARRAY_ELEMENTS + 2) // 3
    assert str(everything - ArrayElements.of(7)) == f"0-6,8-{MAX_ARRAY_ELEMENTS - 1}"
    assert len(ArrayElements.parse(f"0-{MAX_ARRAY_ELEMENTS - 1}:2000000")) == 3


@given(sets, sets)
def test_behaves_as_a_set(one, two):
    assert numbers(elements(one) | elements(two)) == one | two
    assert numbers(elements(one) & elements(two)) == one & two
    assert numbers(elements(one) - elements(two)) == one - two
    assert len(elements(one)) == len(one)
    assert bool(elements(one)) == bool(one)
    assert elements(one).lowest() == min(one, default=-1)


@given(sets.filter(bool))
def test_what_is_written_is_read_back(one):
    assert ArrayElements.parse(str(elements(one))) == elements(one)


@given(st.text(alphabet="0123456789,-:%", max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        value = ArrayElements.parse(text)
    except ValueError:
        return
    assert value
    assert ArrayElements.parse(str(value)) == value


@pytest.mark.parametrize(
    ("job_id", "place"),
    [
        ("14_2", ArrayPlace("14", 2)),
        ("14_[3-9%2]", ArrayPlace("14", None, "3-9", 2)),
        ("14_[1,3]", ArrayPlace("14", None, "1,3")),
        ("14_7.west", ArrayPlace("14.west", 7)),
        ("14[2].pbs01", ArrayPlace("14[].pbs01", 2)),
        ("14[].pbs01", ArrayPlace("14[].pbs01")),
        ("14", None),
        ("14.pbs01", None),
        ("14+1", None),
        ("x_1", None),
    ],
)
def test_the_place_of_a_job_in_its_array(job_id: str, place: ArrayPlace | None) -> None:
    assert ArrayPlace.of(job_id) == place
