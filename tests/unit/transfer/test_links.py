"""Signed URLs: what they open, and every change of them that must open nothing."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.errors import Denied
from flamecrest.server.files.resumable.state import expired
from flamecrest.server.transfer.direct.links import LinkSigner, Method, Resource, Ticket, depth_within
from flamecrest.server.transfer.direct.parts import MAX_PARTS, PartPlan
from flamecrest.server.transfer.records.names import data_beside, expiry, is_transfer_id, new_id, transfer_of

NOW = 1_800_000_000.0
LATER = int(NOW) + 60
SIGNER = LinkSigner(b"k" * 32)
TICKET = Ticket("alice", "daint", new_id(LATER), "/home/alice/a b", "/home/alice/.x", PartPlan(250, 100), LATER)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
TICKETS = st.builds(
    Ticket, TEXT, TEXT, TEXT, TEXT, TEXT,
    st.builds(PartPlan, st.integers(0, 2**63 - 1), st.integers(1, 2**63 - 1)), st.integers(LATER, 2**40),
    st.integers(0, 100),
)  # fmt: skip


def split(url: str) -> tuple[str, str, str, bytes]:
    """Resource, ticket, part and query of a URL."""
    path, _, query = url.partition("?")
    _, _, _, _, resource, ticket, *part = path.split("/")
    return resource, ticket, part[0] if part else "", query.encode()


def part_urls(ticket: Ticket) -> list[str]:
    start, urls = SIGNER.part_urls(ticket)
    return [start + url for url in urls]


def opened(url: str, method: Any, *, now: float = NOW, signer: LinkSigner = SIGNER) -> Ticket:
    resource, ticket, part, query = split(url)
    found: Any = resource
    return signer.verify(method, found, ticket, part, query, now)


def test_urls_open_what_they_are_for() -> None:
    urls = part_urls(TICKET)
    assert [split(url)[2] for url in urls] == ["1", "2", "3"]
    assert all(url.startswith("/filesystem/daint/transfer/parts/") for url in urls)
    assert [opened(url, "PUT") for url in urls] == [TICKET] * 3
    assert opened(SIGNER.url("POST", "uploads", TICKET), "POST") == TICKET
    assert opened(SIGNER.url("GET", "content", TICKET), "GET") == TICKET


def test_parts_of_large_files_have_urls_of_their_own() -> None:
    large = replace(TICKET, plan=PartPlan.of(10**12, 64 * 2**20))
    urls = part_urls(large)
    assert len({url.rpartition("=")[2] for url in urls}) == len(urls) == large.plan.count
    for number in (1, 100, 101, 9_900, large.plan.count):
        assert opened(urls[number - 1], "PUT") == large
        resource, ticket, _, query = split(urls[number - 1])
        assert resource == "parts"
        for other in (number - 1, number + 1, number + 100, number - 100):
            with pytest.raises(Denied, match="not valid"):
                SIGNER.verify("PUT", "parts", ticket, str(other), query, NOW)


@pytest.mark.parametrize(
    ("path", "folders", "folder"),
    [
        ("/a/b/c", (), "/"),
        ("/a/b/c", ("/x", "/a"), "/a"),
        ("/a/b/c", ("/a", "/a/b"), "/a/b"),
        ("/a//./b/c", ("/a/b",), "/a/b"),
        ("/a/b", ("/a/b",), "/a/b"),
        ("/a/b", ("/",), "/"),
        ("/ab/c", ("/a", "/ab/"), "/ab"),
    ],
)
def test_the_folder_of_a_narrow_token_is_in_the_ticket(path: str, folders: tuple[str, ...], folder: str) -> None:
    ticket = replace(TICKET, path=path, depth=depth_within(path, folders))
    assert opened(SIGNER.url("GET", "content", ticket), "GET").folder == folder


@given(TICKETS)
def test_every_ticket_comes_back(ticket: Ticket) -> None:
    assert opened(SIGNER.url("GET", "content", ticket), "GET") == ticket


@given(TICKETS, TICKETS)
def test_tickets_that_differ_have_different_urls(one: Ticket, other: Ticket) -> None:
    assert (one == other) == (SIGNER.url("GET", "content", one) == SIGNER.url("GET", "content", other))


@given(
    st.sampled_from(get_args(Method)),
    st.sampled_from(get_args(Resource)),
    st.sampled_from(["", "1", "2", "02", "0", "-1", "+1", "\u0661", "1" * 5000, "101", "x"]),
)
def test_url_opens_one_method_and_one_part_only(method: Any, resource: Any, part: str) -> None:
    _, ticket, _, query = split(part_urls(TICKET)[0])
    if (method, resource, part) == ("PUT", "parts", "1"):
        assert SIGNER.verify(method, resource, ticket, part, query, NOW) == TICKET
        return
    with pytest.raises(Denied, match="not valid"):
        SIGNER.verify(method, resource, ticket, part, query, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"user": "bob"}, {"cluster": "eiger"}, {"transfer": new_id(LATER)}, {"path": "/home/alice/a"},
        {"data": "/home/alice/.bashrc"}, {"plan": PartPlan(251, 100)}, {"plan": PartPlan(250, 101)},
        {"expires": LATER + 1},
    ],
)  # fmt: skip
def test_signature_fits_no_other_ticket(change: dict[str, Any]) -> None:
    forged = split(SIGNER.url("GET", "content", replace(TICKET, **change)))[1]
    _, _, _, query = split(SIGNER.url("GET", "content", TICKET))
    with pytest.raises(Denied):
        SIGNER.verify("GET", "content", forged, "", query, NOW)


def test_fields_cannot_be_shifted() -> None:
    """Bytes that end one field and begin the next."""
    one = replace(TICKET, transfer="a", path="b/c")
    two = replace(TICKET, transfer="ab", path="/c")
    assert SIGNER.url("GET", "content", one).rpartition("=")[2] != SIGNER.url("GET", "content", two).rpartition("=")[2]


@pytest.mark.parametrize(
    "spell",
    [
        lambda query: query + b"&signature=x",
        lambda query: b"signature=x&" + query,
        lambda query: query + b"&x=1",
        lambda query: query.replace(b"signature", b"Signature"),
        lambda query: query.replace(b"signature", b"sign%61ture"),
        lambda query: query[:-1] + b"%" + query[-1:].hex().encode(),
        lambda query: query + b"=",
        lambda query: query + b"&",
        lambda query: query[:-1],
        lambda _: b"",
        lambda _: b"signature=",
        lambda _: b"signature=\xff",
    ],
)
def test_query_has_one_spelling(spell: Any) -> None:
    _, ticket, _, query = split(SIGNER.url("GET", "content", TICKET))
    with pytest.raises(Denied):
        SIGNER.verify("GET", "content", ticket, "", spell(query), NOW)


@given(st.integers(0, 10**6), st.characters(codec="ascii"))
def test_ticket_has_one_spelling(at: int, character: str) -> None:
    _, ticket, _, query = split(SIGNER.url("GET", "content", TICKET))
    at %= len(ticket)
    other = ticket[:at] + character + ticket[at + 1 :]
    if other == ticket:
        return
    with pytest.raises(Denied):
        SIGNER.verify("GET", "content", other, "", query, NOW)


@pytest.mark.parametrize("ticket", ["", "=", "é", "A" * 10**6, base64.urlsafe_b64encode(b"1\0" * 9).decode()])
def test_malformed_tickets_are_refused(ticket: str) -> None:
    with pytest.raises(Denied):
        SIGNER.verify("GET", "content", ticket, "", b"signature=" + b"A" * 43, NOW)


def test_urls_expire_and_belong_to_a_key() -> None:
    url = SIGNER.url("GET", "content", TICKET)
    assert opened(url, "GET", now=LATER - 0.1) == TICKET
    with pytest.raises(Denied, match="expired"):
        opened(url, "GET", now=LATER)
    with pytest.raises(Denied, match="not valid"):
        opened(url, "GET", signer=LinkSigner(b"x" * 32))
    with pytest.raises(Denied, match="not valid"):
        opened(url, "GET", signer=LinkSigner.random())
    assert opened(url, "GET", signer=LinkSigner(b"k" * 32)) == TICKET
    assert "k" * 5 not in repr(SIGNER)


@given(st.integers(0, 2**63 - 1), st.integers(1, 2**40))
def test_parts_cover_the_file(size: int, wanted: int) -> None:
    plan = PartPlan.of(size, wanted)
    assert plan.part_size >= wanted
    assert 1 <= plan.count <= MAX_PARTS
    assert plan.span(1)[0] == 0
    assert sum(plan.span(plan.count)) == size
    before = plan.span(plan.count - 1) if plan.count > 1 else (0, 0)
    assert sum(before) == plan.span(plan.count)[0]
    for number in (0, plan.count + 1):
        with pytest.raises(ValueError, match="no part"):
            plan.span(number)


def test_part_sizes() -> None:
    assert PartPlan.of(0, 64).count == 1
    assert PartPlan.of(64, 64) == PartPlan(64, 64)
    assert PartPlan.of(640_000, 64).part_size == 64
    assert PartPlan.of(640_001, 64).part_size == 1024 * 1024
    assert PartPlan.of(10**12, 64 * 2**20).part_size == 96 * 2**20


@given(st.integers(0, 26**7 - 1))
def test_ids_tell_their_expiry(expires: int) -> None:
    one, other = new_id(expires), new_id(expires)
    assert is_transfer_id(one)
    assert expiry(one) == expires
    assert one != other
    assert data_beside(b"/a", one) != data_beside(b"/a", other)
    assert transfer_of(one.encode() + b".parts") == one


@pytest.mark.parametrize("text", ["", "123", "transfer-", "transfer-" + "A" * 26, "transfer-" + "a" * 27, "a\n"])
def test_other_ids_are_no_transfers(text: str) -> None:
    assert not is_transfer_id(text)
    assert transfer_of(text.encode() + b".json") is None
    with pytest.raises(ValueError, match="no id"):
        expiry(text)


def test_data_has_the_name_of_a_resumable_upload() -> None:
    """So that its sweep removes the data when it has expired."""
    name = data_beside(b"/", new_id(int(time.time()))).rpartition(b"/")[2]
    assert not expired(name, time.time() - 10)
    assert expired(name, time.time() + 10)
