"""The rules of the pool that need no I/O, over random histories: see docs/developers/pool.md."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import count, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from flamecrest.server.errors import Upstream
from flamecrest.server.ssh.errors import ConnectionDropped
from flamecrest.server.ssh.pool.channel_limit import PAUSES, ChannelLimit, Kind, Load
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.pool.logins import (
    DROP_PAUSES,
    FAST_DIALS,
    REFUSED_PAUSES,
    SLOW_DIALS,
    Attempt,
    Dial,
    FailedLogins,
    LoginNode,
    Outcome,
)
from flamecrest.server.ssh.pool.policy import TURN, Hold, Holder, choose_recalls

HOST, ERROR = Host("a"), Upstream("refused")


class Sshd:
    """PerSourcePenalties of OpenSSH with its defaults: whole seconds, 5 for each failure, enforced from 15 on."""

    def __init__(self) -> None:
        self.ends = 0
        self.enforced = False

    def fail(self, now: float) -> None:
        second = int(now)
        self.ends = max(second, self.ends) + 5
        self.enforced = self.enforced or self.ends - second >= 15


class History:
    """Logins of some users over a minute: those of `bad` users are refused, those of `hung` ones get no answer."""

    def __init__(self, seed: int, bad: int, hung: int) -> None:
        self.rng = random.Random(seed)
        self.bad = {f"bad{n}" for n in range(bad)}
        self.hung = {f"hung{n}" for n in range(hung)}
        self.node, self.failed, self.sshd = LoginNode(), FailedLogins(), Sshd()
        self.begun: list[tuple[float, str, Dial]] = []  # when it ends, whose it is
        self.tried: dict[str, list[float]] = {}
        self.proven: set[str] = set()
        self.waited: dict[str, float] = {}
        self.node.identified("SSH-2.0-OpenSSH_10.0")

    def request(self, user: str, now: float) -> bool:
        """Whether the user's login begins; none is under way."""
        last = self.failed.last(user, HOST, b"key")
        if last is not None and now < last.until:
            return False
        attempt = Attempt(user in self.proven, last is not None and not last.timeout, last is not None and last.timeout)
        if self.node.wait(attempt, now):
            return False
        takes = 10.0 if user in self.hung else self.rng.uniform(0.05, 0.25)
        self.begun.append((now + takes, user, self.node.begin(attempt, now)))
        self.tried.setdefault(user, []).append(now)
        return True

    def end_due(self, now: float) -> None:
        for entry in [entry for entry in self.begun if entry[0] <= now]:
            self.begun.remove(entry)
            ended, user, dial = entry
            if user in self.bad:
                self.sshd.fail(ended)
                self.node.end(dial, Outcome.REFUSED, now)
                self.failed.add(user, HOST, b"key", ERROR, now, timeout=False)
            elif user in self.hung:
                self.node.end(dial, Outcome.UNTRIED, now)
                self.failed.add(user, HOST, b"key", ERROR, now, timeout=True)
            else:
                self.node.end(dial, Outcome.SUCCEEDED, now)
                self.failed.forget(user, HOST)
                self.proven.add(user)

    def play(self, arrivals: Callable[[float], list[str]], until: float = 60.0) -> None:
        waiting: list[str] = []
        for step in count():
            now = 1000.0 + step * 0.05
            if now > 1000.0 + until:
                return
            self.end_due(now)
            under_way = {user for _, user, _ in self.begun}
            for user in arrivals(now - 1000.0):
                if user not in waiting and user not in under_way:
                    waiting.append(user)
                    self.waited[user] = now
            for user in list(waiting):
                if self.request(user, now):
                    waiting.remove(user)
                    self.waited[user] = now - self.waited[user]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 12))
def test_failed_logins_never_reach_the_penalty_of_the_node(seed, bad):
    history = History(seed, bad, hung=0)
    everyone = [*history.bad, *(f"good{n}" for n in range(8))]
    history.play(lambda _: [user for user in everyone if history.rng.random() < 0.25])
    assert not history.sshd.enforced
    for user in history.bad:
        gaps = [after - before for before, after in pairwise(history.tried.get(user, []))]
        assert all(gap >= pause for gap, pause in zip(gaps, REFUSED_PAUSES, strict=False)), "growing pauses"
    if bad <= 1:
        assert {f"good{n}" for n in range(8)} <= history.proven


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 40))
def test_hung_logins_leave_room(seed, hung):
    history = History(seed, 0, hung)
    history.node.identified("SSH-2.0-OpenSSH_9.2")
    most = 0

    def arrivals(now: float) -> list[str]:
        nonlocal most
        most = max(most, len(history.begun))
        return [*sorted(history.hung), *(["good"] if now > 15 else [])]

    history.play(arrivals, until=25.0)
    assert most <= SLOW_DIALS
    assert "good" in history.proven
    assert history.waited["good"] < 3.0


@given(st.integers(0, 10**9))
def test_dropped_connections_pause_everybody_and_one_login_ends_the_pause(seed):
    rng = random.Random(seed)
    node, now, before = LoginNode(), 100.0, 0.0
    for drops in range(1, 8):
        while node.wait(Attempt(proven=True), now):
            now += 0.01
        assert not node.drops or now - before >= DROP_PAUSES[min(drops - 1, len(DROP_PAUSES)) - 1] - 0.01
        dials = [node.begin(Attempt(proven=True), now)]
        while drops == 1 and len(dials) < FAST_DIALS and not node.wait(Attempt(proven=True), now):
            dials.append(node.begin(Attempt(proven=True), now))
        assert len(dials) == (FAST_DIALS if drops == 1 else 1)
        if drops > 1:
            assert node.wait(Attempt(proven=True), now), "one shows whether connections are taken again"
        now += rng.random() / 100
        grew = []
        for dial in dials:
            node.end(dial, Outcome.OTHER, now)
            grew.append(node.drop(dial, ConnectionDropped("dropped"), now, penalty=False))
        assert grew == [True] + [False] * (len(dials) - 1), "connections dropped together are one event"
        before = now
    now = node.paused_until
    node.end(node.begin(Attempt(), now), Outcome.SUCCEEDED, now)
    assert not node.drops
    assert node.wait(Attempt(proven=True), now) == 0


def test_a_new_key_is_not_remembered_as_failed():
    failed = FailedLogins()
    failed.add("ann", HOST, b"old", ERROR, 0.0, timeout=False)
    assert failed.last("ann", HOST, b"old") is not None
    assert failed.last("ann", HOST, b"new") is None
    assert failed.last("bob", HOST, b"old") is None
    failed.prune(10_000.0)
    assert failed.last("ann", HOST, b"old") is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.one_of(st.none(), st.integers(1, 12)))
def test_a_limit_of_channels_follows_the_server(seed, configured):
    """The server's limit changes at random; the user always wants more channels."""
    rng = random.Random(seed)
    limit, used, allowed, now, refusals = ChannelLimit(configured), 0, rng.randint(0, 15), 0.0, []
    for _ in range(400):
        now += 0.02
        if rng.random() < 0.02:
            allowed = rng.randint(0, 15)
        if used and rng.random() < 0.3:
            used -= 1
        while used < limit.now(now):
            assert configured is None or used < configured
            if used < allowed:
                used += 1
                limit.accept(used, now)
            else:
                limit.refuse(used, now)
                refusals.append(now)
    assert len(refusals) <= 400 * 0.02 / PAUSES[0] + 20, "each pause has one refusal at most, and grows"
    now += PAUSES[-1] + 1
    for _ in range(40):  # the server takes all again
        if used < limit.now(now):
            used += 1
            limit.accept(used, now)
    assert used >= (configured or 10), "what was learned rises again"


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_the_kinds_leave_channels_to_each_other(capacity, commands, long):
    load = Load(capacity, max(commands, long), long)
    allowed = [load.allows(kind) for kind in Kind]
    assert allowed == sorted(allowed, reverse=True), "what a longer kind may, a shorter one may, too"
    assert allowed[0]
    if capacity >= 4 and load.commands < capacity and allowed[1]:
        assert capacity - load.commands - 1 >= 2, "two are left to SFTP and the agent"
    if capacity >= 4:
        assert Load(capacity, 0, 0).allows(Kind.LONG)


@given(
    st.lists(st.builds(Holder, st.sampled_from("abcd"), st.floats(0, 10), st.sampled_from(Hold)), max_size=8),
    st.integers(-1, 8),
)
def test_turns_are_taken_from_those_who_have_several_or_had_their_time(holders, waiting):
    chosen = choose_recalls(holders, waiting)
    assert len(chosen) == len(set(chosen)) <= max(0, waiting)
    left = Counter(holder.user for holder in holders)
    for index in chosen:
        others = [n for n in range(len(holders)) if n not in chosen[: chosen.index(index)]]
        if left[holders[index].user] == 1:
            assert holders[index].age >= TURN
            assert all(left[holders[n].user] == 1 for n in others), "first from users who keep another one"
        left[holders[index].user] -= 1
    over = [holder for holder in holders if holder.age >= TURN]
    assert len(chosen) >= min(max(0, waiting), len(over)), "nobody waits while a turn is over"
