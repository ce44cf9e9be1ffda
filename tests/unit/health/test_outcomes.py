"""Which errors of users' requests are a service's, and which are the user's own."""

from __future__ import annotations

import pytest

from flamecrest.server.errors import Busy, Denied, GatewayError, NotFound, Timeout, Unavailable, Upstream
from flamecrest.server.health.board import Service, Target
from flamecrest.server.health.outcomes import blamed
from flamecrest.server.schedulers.job_errors import scheduler_down
from flamecrest.server.ssh.errors import (
    AddressPenalised,
    ConnectionDropped,
    CredentialsUnavailable,
    LoginRefused,
    LoginTimeout,
    Lost,
    NoIdentification,
    NothingSent,
    NotStarted,
    Unanswered,
    Unreachable,
)

SSH, SCHEDULER = Target(Service.SSH), Target(Service.SCHEDULER)
HOME, SCRATCH = Target(Service.FILESYSTEM, "/home"), Target(Service.FILESYSTEM, "/scratch")


def late_by_request() -> Timeout:
    error = Timeout("no answer in time")
    error.by_request = True
    return error


@pytest.mark.parametrize(
    ("error", "used", "expected"),
    [
        (Unreachable("refused"), (SSH, SCHEDULER), SSH),
        (NoIdentification("silent"), (SSH, HOME), SSH),
        (scheduler_down("slurmctld"), (SSH, SCHEDULER), SCHEDULER),
        (scheduler_down("slurmctld"), (SCHEDULER,), SCHEDULER),
        (Timeout("late"), (SSH, SCHEDULER), SCHEDULER),
        (Timeout("late"), (SSH, HOME), HOME),
        (Timeout("late"), (SSH, HOME, SCRATCH), None),  # one of them
        (Timeout("late"), (SSH,), None),
        (late_by_request(), (SSH, HOME), None),
        *[
            (error, (SSH, SCHEDULER, HOME), None)
            for error in (
                Unavailable("no free connection"),
                Upstream("squeue failed"),
                NotFound("no such file"),
                Denied("permission"),
                Busy("too many"),
                LoginRefused("key"),
                LoginTimeout("hangs"),
                AddressPenalised("penalty"),
                ConnectionDropped("MaxStartups"),
                CredentialsUnavailable("no signer"),
                NothingSent("too many logins are under way"),
                NotStarted(".bashrc"),
                Lost("connection"),
                Unanswered("connection"),
                ValueError("defect"),
            )
        ],
    ],
)
def test_blamed(error: GatewayError, used: tuple[Target, ...], expected: Target | None) -> None:
    found = blamed(error, used, quick=True)
    assert (found and found[0]) == expected
    if isinstance(error, Timeout):
        assert blamed(error, used, quick=False) is None


def test_what_one_users_program_prints_is_shown_to_nobody_else() -> None:
    found = blamed(scheduler_down("Connection refused; call +1 900 and ask for mallory"), (SSH, SCHEDULER), quick=True)
    assert found is not None
    assert "mallory" not in found[1]
