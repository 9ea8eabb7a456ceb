"""Files that nobody vouches for: any bytes must be read as valid data or refused, and cost no memory.

python -m pytest -m slow -k any_bytes      2,000 for each of the six readers, instead of 100
"""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = pytest.mark.parametrize("cases", [100, pytest.param(2000, marks=pytest.mark.slow)])
MEMORY = 16e6  # bytes; the files here have some thousand


def peak(call, *args) -> int:
    """The bytes that call(*args) holds at most at once."""
    tracemalloc.start()
    try:
        call(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def for_all(cases: int, contents: st.SearchStrategy, read) -> None:
    """read(content) for so many drawn contents: what it does not raise itself is an error, and so is much memory."""

    @settings(max_examples=cases, database=None)
    @given(contents)
    def frugal(content) -> None:
        assert peak(read, content) < MEMORY

    frugal()


def mutations(good: bytes) -> st.SearchStrategy:
    """Arbitrary bytes, and good ones cut, with some overwritten or with some inserted."""

    def change(kind: str, at: int, new: bytes) -> bytes:
        at %= len(good) + 1
        return good[:at] + {"cut": b"", "set": new + good[at + len(new) :], "put": new + good[at:]}[kind]

    kinds = st.sampled_from(["cut", "set", "put"])
    return st.binary(max_size=200) | st.builds(change, kinds, st.integers(0, 2**31), st.binary(min_size=1, max_size=8))
