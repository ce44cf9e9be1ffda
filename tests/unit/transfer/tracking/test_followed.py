"""How many transfers are followed for one user."""

from contextlib import ExitStack

import pytest

from flamecrest.server.errors import Busy
from flamecrest.server.transfer.tracking.followed import MOST_FOUND, MOST_OF_USER, Followed

pytestmark = pytest.mark.anyio


async def never() -> bool:
    return False


async def test_one_user_cannot_have_any_number_of_transfers_followed() -> None:
    """A user who writes ten thousand such records would have them all looked at for a month."""
    followed = Followed()
    try:
        for number in range(MOST_FOUND + 50):
            followed.follow("one", f"transfer {number}", never)
        assert len(followed) == MOST_FOUND
        followed.follow("another", "another transfer", never)
        assert len(followed) == MOST_FOUND + 1
    finally:
        await followed.close()
    assert len(followed) == 0


async def test_transfers_that_are_being_started_take_room() -> None:
    """So requests that come at the same time do not start more than are followed."""
    followed = Followed()
    with ExitStack() as stack:
        for _ in range(MOST_OF_USER):
            stack.enter_context(followed.room("one"))
        with pytest.raises(Busy), followed.room("one"):
            pass
        with followed.room("another"):
            pass
    with followed.room("one"):
        pass
