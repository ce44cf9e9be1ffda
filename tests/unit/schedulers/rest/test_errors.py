"""Refusals of slurmrestd that look like an outage."""

from __future__ import annotations

from flamecrest.server.errors import Conflict, Invalid, Unavailable
from flamecrest.server.schedulers.slurm.rest.errors import Reply, error_of

# of 22.05, for 2147483647 tasks
TOO_LARGE = {
    "errors": [
        {"error": "ntasks too large", "error_code": -1},
        {"description": 'Unable to process key "tasks"', "error_number": -1, "error": "Unspecified error"},
        {"error_code": 9001, "error": "Failure during parsing"},
    ]
}


def test_a_value_that_is_too_large_is_no_outage() -> None:
    error = error_of(Reply(400, TOO_LARGE), own_token=False, submits=True)
    assert type(error) is Invalid
    assert error.public.startswith("ntasks too large; ")


def test_the_same_numbers_without_a_refusal_are_one() -> None:
    assert type(error_of(Reply(500, TOO_LARGE), own_token=False)) is Unavailable
    silent = {"errors": TOO_LARGE["errors"][:2]}
    assert type(error_of(Reply(400, silent), own_token=False)) is Unavailable


def test_a_refused_change_does_not_name_the_gateways_address() -> None:
    entry = {
        "description": "job update from [localhost]:38314 failed",
        "error_number": 2021,
        "error": "Job has already finished",
        "source": "slurm_update_job2",
    }
    error = error_of(Reply(500, {"errors": [entry]}), own_token=False)
    assert (type(error), error.public) == (Conflict, "Job has already finished")
