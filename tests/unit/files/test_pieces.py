"""Chunks of any size become pieces of one size: the same bytes, in order."""

from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.files.remote.writing import Rechunker


@given(st.lists(st.binary(max_size=40)), st.integers(1, 17))
def test_the_same_bytes_in_pieces_of_one_size(chunks, size):
    pieces = Rechunker(size)
    found = [piece for chunk in chunks for piece in pieces.add(chunk)]
    assert all(said == size for said, _ in found)
    found += pieces.rest()
    joined = [b"".join(parts) for _, parts in found]
    assert b"".join(joined) == b"".join(chunks)
    assert [said for said, _ in found] == [len(data) for data in joined]
    assert all(joined), "nothing empty"
    assert all(len(data) == size for data in joined[:-1])


def test_a_chunk_that_fits_is_not_copied():
    pieces, chunk = Rechunker(10), b"0123456789"
    ((size, (part,)),) = pieces.add(chunk)
    assert size == 10
    assert isinstance(part, memoryview)
    assert part.obj is chunk
    assert not list(pieces.rest())
