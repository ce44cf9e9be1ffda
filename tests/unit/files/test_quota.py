"""Quotas: the command that is sent is the one that was recorded, and what it said is what is understood."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flamecrest.server.files.remote.commands.quota import command
from flamecrest.server.files.values import OwnerQuota, PathQuotas, QuotaUsage
from flamecrest.server.ssh.command import Output

FOLDER = Path(__file__).parents[2] / "recorded" / "quota-4.06"
GIGA = 10**9
NOTHING = QuotaUsage(0, None, None, None)
PROJ = OwnerQuota("proj", QuotaUsage(3072 * 1024, 204800 * 1024, 307200 * 1024, None), QuotaUsage(3, 5000, 6000, None))
LARGE = OwnerQuota(
    "proj", QuotaUsage(2048 * 1024, 10 * GIGA * 1024, 20 * GIGA * 1024, None), QuotaUsage(2, None, None, None)
)
SOFT = PathQuotas(
    OwnerQuota(
        "soft", QuotaUsage(5144 * 1024, 1024 * 1024, 102400 * 1024, 1795925739), QuotaUsage(7, None, None, None)
    ),
    OwnerQuota("soft", QuotaUsage(5144 * 1024, None, None, None), QuotaUsage(7, None, None, None)),
)
MANY = OwnerQuota(
    "many", QuotaUsage(6192 * 1024, 4096 * 1024, 8192 * 1024, 1795925744), QuotaUsage(14, 10, 20, 1795925742)
)
BELOW = PathQuotas(
    OwnerQuota("plain", QuotaUsage(24 * 1024, 102400 * 1024, 122880 * 1024, None), QuotaUsage(7, 1000, 1200, None)),
    OwnerQuota("plain", QuotaUsage(24 * 1024, None, 51200 * 1024, None), QuotaUsage(7, None, None, None)),
)
TWO_MEGA = OwnerQuota("plain", QuotaUsage(2048 * 1024, None, None, None), QuotaUsage(1, None, None, None))


def unlimited(name: str, blocks: int, files: int) -> OwnerQuota:
    return OwnerQuota(name, QuotaUsage(blocks * 1024, None, None, None), QuotaUsage(files, None, None, None))


SAID = {
    "ext4-below-limits": BELOW,
    "ext4-over-soft": SOFT,
    "ext4-at-hard": PathQuotas(
        OwnerQuota(
            "hard", QuotaUsage(4096 * 1024, 2048 * 1024, 4096 * 1024, 1795925740), QuotaUsage(7, None, None, None)
        ),
        unlimited("hard", 4096, 7),
    ),
    "ext4-files-over-soft": PathQuotas(
        OwnerQuota("files", QuotaUsage(56 * 1024, None, None, None), QuotaUsage(14, 6, 20, 1795925740)),
        unlimited("files", 56, 14),
    ),
    "ext4-grace-over": PathQuotas(
        OwnerQuota(
            "late", QuotaUsage(3128 * 1024, 1024 * 1024, 102400 * 1024, 1795320945), QuotaUsage(15, 5, 50, 1795320945)
        ),
        unlimited("late", 3128, 15),
    ),
    "ext4-no-limits": PathQuotas(unlimited("nolimit", 2072, 7), unlimited("nolimit", 2072, 7)),
    "ext4-root": PathQuotas(unlimited("root", 24, 3), unlimited("root", 24, 3)),
    "xfs-both-over-soft": PathQuotas(MANY, unlimited("many", 5168, 13)),
    "xfs-setgid-folder": PathQuotas(MANY, PROJ),
    "xfs-file-of-group": PathQuotas(unlimited("nolimit", 2048, 1), PROJ),
    "xfs-group-of-others": PathQuotas(unlimited("late", 0, 0), None),
    "xfs-large-limits": PathQuotas(
        OwnerQuota("many", QuotaUsage(0, None, 6 * GIGA * 1024, None), NOTHING), unlimited("many", 0, 0)
    ),
    "xfs-large-limits-group": PathQuotas(TWO_MEGA, LARGE),
    "odd-name": PathQuotas(TWO_MEGA, unlimited("plain", 0, 0)),
    "link": PathQuotas(unlimited("plain", 0, 0), unlimited("plain", 0, 0)),
    "bind-mount": BELOW,
    "nfs4": SOFT,
    "nfs3": SOFT,
    "nfs4-large-limits": PathQuotas(
        OwnerQuota("many", QuotaUsage(0, None, 6 * GIGA * 1024, None), NOTHING), unlimited("many", 0, 0)
    ),
    "nfs-no-quota": None,
    "nfs-no-rquotad": None,
    "no-program": None,
    "no-quota": None,
    "none-such": None,
    "not-allowed": None,
    "proc": None,
}
OTHER_FORMS = {"version", "plain-form", "plain-form-with-groups"}


@dataclass(frozen=True)
class Recording:
    line: str
    output: Output


def recording(path: Path) -> Recording:
    text = path.read_text("utf-8")
    status = re.search(r"^# exit status (\d+)$", text, re.MULTILINE)
    assert status, path
    err = path.with_suffix(".err")
    said = path.with_suffix(".out").read_bytes(), err.read_bytes() if err.exists() else b""
    return Recording(text[: text.index("\n# run as ")], Output(int(status[1]), *said))


RECORDED = {path.stem[4:]: recording(path) for path in sorted(FOLDER.glob("*.cmd"))}


def test_every_recording_is_read():
    assert set(RECORDED) == set(SAID) | OTHER_FORMS


@pytest.mark.parametrize("name", SAID)
def test_what_was_said_is_understood(name):
    recorded = RECORDED[name]
    asked = command(shlex.split(recorded.line)[-1])
    assert shlex.join(asked.argv) == recorded.line
    assert asked.parse(recorded.output) == SAID[name]


@pytest.mark.parametrize("name", sorted(OTHER_FORMS))
@pytest.mark.parametrize("place", [b"", b"41ed 2002\n2002\n"])
def test_other_forms_are_not_taken_for_it(name, place):
    """Rounded times and wrapped lines, as a program prints them that does not know the options, are no numbers."""
    assert understood(place + RECORDED[name].output.stdout) is None


def understood(said: bytes) -> PathQuotas | None:
    return command("/home/ann").parse(Output(0, said))


# --- anything at all


@given(st.binary(max_size=300))
def test_what_nobody_has_seen_is_not_known(said):
    assert understood(said) is None
    assert understood(b"41ed 1\n1\n" + said) is None


HEADING = "Disk quotas for {} ann ({}id 1): \n"


@given(
    st.lists(
        st.sampled_from(
            [
                HEADING.format("user", "u"),
                HEADING.format("group", "g"),
                "Disk quotas for user ann (uid 1): none\n",
                "/dev/a 1 2 3 4 5 6 7 8\n",
                "/dev/a 1* 2 3 4 5* 6 7 0\n",
                "1 2 3 4 5 6 7 8\n",
                "/dev/a -1 2 3 4 5 6 7 8\n",
                "/dev/a 1K 2 3 4 5 6 7 8\n",
                f"/dev/a {'9' * 5000} 2 3 4 5 6 7 8\n",
                "/dev/a ١ 2 3 4 5 6 7 8\n",  # noqa: RUF001 -- a digit that is none of the program's
                "\0\r\x1b[31m\n",
                "",
            ]
        )
        | st.text(max_size=40),
        max_size=12,
    )
)
@example([HEADING.format("user", "u"), "/dev/a 1* 2 3 4 5 6 7 8\n"])
def test_lines_in_any_order(lines):
    found = understood(("41ed 1\n1\n" + "".join(lines)).encode("utf-8", "surrogatepass"))
    for quota in (found.user, found.group) if found else ():
        if quota is not None:
            assert quota.name == "ann"
            assert quota.space == QuotaUsage(1024, 2048, 3072, 4)
            assert quota.files in {QuotaUsage(5, 6, 7, 8), QuotaUsage(5, 6, 7, None)}


NUMBERS = st.integers(min_value=0, max_value=2**64 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1, max_size=30)


@given(
    NAMES, NAMES.filter(str.strip), st.lists(NUMBERS, min_size=8, max_size=8), st.tuples(st.booleans(), st.booleans())
)
@example("a (uid 7): ", "server:/export 1 2 3 4 5 6 7 8 9", list(range(8)), (True, False))
def test_whatever_people_and_file_systems_are_called(name, device, numbers, over):
    line = "{:>15} {:>7}{} {:>6} {:>7} {:>7} {:>7}{} {:>6} {:>7} {:>7}\n".format(
        device, numbers[0], " *"[over[0]], *numbers[1:5], " *"[over[1]], *numbers[5:]
    )
    found = understood(f"41ed 5\n1\nDisk quotas for user {name} (uid 1): \n{line}".encode())
    assert found is not None
    assert found.user is not None
    assert found.user.name == name
    assert (found.user.space.used, found.user.files.used) == (numbers[0] * 1024, numbers[4])
    assert found.user.space.hard == (numbers[2] * 1024 or None)
    assert found.user.files.grace_until == (numbers[7] or None)
    assert found.group is None


def test_a_long_answer_takes_no_long_time():
    line = "1 " * 500_000
    assert understood(f"41ed 1\n1\n{HEADING.format('user', 'u')}{line}\n{'(uid 1' * 100_000}\n".encode()) is not None
    assert understood(f"41ed 1\n1\n{'Disk quotas for user ' + '(uid 1): x' * 100_000}\n".encode()) is None
