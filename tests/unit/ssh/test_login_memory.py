"""What is remembered of logins, and for how long; the clock is the test's."""

from __future__ import annotations

import pytest

from flamecrest.server.ssh.errors import NoCommands, NotStarted
from flamecrest.server.ssh.login_memory import HUNG_PAUSES, NO_COMMANDS_SECONDS, Expiring, LoginMemory


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def hung(text: str, *, said: bool = False) -> NotStarted:
    error = NotStarted(text)
    error.hung, error.said = True, said
    return error


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> LoginMemory:
    return LoginMemory(clock)


def test_values_expire_and_are_bounded(clock: Clock) -> None:
    values: Expiring[int] = Expiring(clock, most=3)
    for number, user in enumerate("abcd"):
        values.set(user, number, 10 + number)
    assert [values.get(user) for user in "abcd"] == [None, 1, 2, 3]
    values.set("b", 4, 50)
    values.set("e", 5, 1)
    assert [values.get(user) for user in "bcde"] == [4, None, 3, 5]
    clock.now += 2
    assert ("e" in values, "d" in values) == (False, True)
    values.set("f", 6, 1)
    assert ([values.get(user) for user in "bdf"], len(values)) == ([4, 3, 6], 3)
    values.forget("b")
    assert "b" not in values


def test_the_pause_after_a_hung_login_grows_and_is_its_users(clock: Clock, memory: LoginMemory) -> None:
    for pause in (*HUNG_PAUSES, HUNG_PAUSES[-1]):
        for _ in range(5):  # requests that waited for the same login
            memory.note("ann", hung("The login hung"))
        memory.check("bob")
        memory.check_sftp("ann")
        clock.now += pause - 0.1
        with pytest.raises(NotStarted, match="hung"):
            memory.check("ann")
        clock.now += 0.2
        memory.check("ann")
    memory.note_greeting("ann")
    memory.note("ann", hung("The login hung"))
    clock.now += HUNG_PAUSES[0]
    memory.check("ann")


def test_sftp_that_hangs_has_the_words_of_the_shell(memory: LoginMemory) -> None:
    memory.note("ann", hung("no shell: Locked", said=True))
    assert str(memory.note_sftp("ann", hung("no SFTP"))) == "no shell: Locked"
    with pytest.raises(NotStarted, match="Locked"):
        memory.check_sftp("ann")
    memory.note_sftp("ann", hung("no SFTP: Closed", said=True))
    with pytest.raises(NotStarted, match="Locked"):
        memory.check_sftp("ann")
    memory.note_sftp("bob", hung("no SFTP"))
    memory.note_sftp("bob", hung("no SFTP: Closed", said=True))
    with pytest.raises(NotStarted, match="Closed"):
        memory.check_sftp("bob")
    memory.note_sftp("cyd", NotStarted("ended"))
    memory.check_sftp("cyd")
    memory.note_sftp_opened("bob")
    memory.check_sftp("bob")
    memory.note_greeting("ann")
    memory.check_sftp("ann")


def test_a_login_without_commands_is_remembered_for_its_user(clock: Clock, memory: LoginMemory) -> None:
    memory.note("ann", NoCommands())
    memory.note_no_commands("bob", refused=True)
    for user in ("ann", "bob"):
        with pytest.raises(NoCommands):
            memory.check(user)
    assert (memory.without_agent("ann"), memory.without_agent("cyd"), memory.without_shell("ann")) == (
        True,
        False,
        True,
    )
    clock.now += NO_COMMANDS_SECONDS - 1
    memory.check("bob")
    with pytest.raises(NoCommands):
        memory.check("ann")
    clock.now += 1
    memory.check("ann")
