"""What the error of a user's request says about the services that it has used. Pure, no I/O.

Only errors count that another user would have met, too: the login node cannot be reached, the scheduler does not
answer, a file system does not answer in time. What a user's own login, key, limits or files bring about counts never.
What a program on the cluster has printed is shown to its user alone: users may change what programs print for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Timeout, Unavailable
from flamecrest.server.ssh.errors import Unreachable

from .board import Service, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

SILENT: Final = "it does not answer"
SLOW: Final = "requests of several users had no answer in time"


def blamed(error: BaseException, used: Sequence[Target], *, quick: bool) -> tuple[Target, str] | None:
    """The service that is to blame, with the message for all users; None: none is.

    used: the services in the order in which the request went through them. quick: the operation takes no longer for
    some users than for others, so that a Timeout is the service's.
    """
    match error:
        case Unreachable():
            kinds, message = {Service.SSH}, error.public
        case Unavailable() if error.answers_nobody:
            kinds, message = {Service.SCHEDULER}, SILENT
        case Timeout() if quick and not error.by_request:
            kinds, message = {Service.SCHEDULER, Service.FILESYSTEM}, SLOW
        case _:
            return None
    found = [target for target in used if target.service in kinds]
    return (found[-1], message) if found and (len(found) == 1 or Service.SSH in kinds) else None
