"""How many transfers a user may start at the same time."""

from contextlib import ExitStack

import pytest

from flamecrest.server.errors import Busy
from flamecrest.server.transfer.tracking.background import MOST, MOST_OF_USER, RunningTransfers


def test_transfers_that_are_being_prepared_take_room() -> None:
    """So requests that come at the same time do not start more transfers than one user, or the gateway, may have."""
    running = RunningTransfers()
    with ExitStack() as stack:
        for user in range(MOST):
            stack.enter_context(running.room(f"user{user % (MOST // MOST_OF_USER)}"))
        with pytest.raises(Busy), running.room("another"):
            pass


def test_one_user_has_less_room_than_all_and_gets_it_back() -> None:
    running = RunningTransfers()
    with ExitStack() as stack:
        for _ in range(MOST_OF_USER):
            stack.enter_context(running.room("one"))
        with pytest.raises(Busy), running.room("one"):
            pass
        with running.room("another"):
            pass
    with running.room("one"):
        pass
