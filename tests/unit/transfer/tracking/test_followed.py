"""How many transfers are followed for one user."""

import pytest

from flamecrest.server.transfer.tracking.followed import MOST_FOUND, Followed

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
