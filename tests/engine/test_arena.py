"""Buffers that live at the same time never share memory, and the whole is small."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cvperf.engine.arena import ALIGNMENT, Lifetime, place


@st.composite
def lifetimes(draw: st.DrawFn) -> Lifetime:
    first = draw(st.integers(0, 20))
    return Lifetime(draw(st.integers(0, 1000)), first, first + draw(st.integers(0, 10)))


@given(st.lists(lifetimes(), max_size=30))
def test_what_lives_at_the_same_time_does_not_overlap(buffers: list[Lifetime]) -> None:
    offsets, size = place(buffers)
    for i, one in enumerate(buffers):
        assert offsets[i] % ALIGNMENT == 0
        assert offsets[i] + one.bytes <= size
        for j, other in enumerate(buffers[:i]):
            apart = one.last < other.first or other.last < one.first
            before = offsets[i] + one.bytes <= offsets[j]
            behind = offsets[j] + other.bytes <= offsets[i]
            assert apart or before or behind or not one.bytes or not other.bytes


def test_a_chain_takes_the_memory_of_its_two_largest_neighbours() -> None:
    chain = [Lifetime(bytes, i, i + 1) for i, bytes in enumerate((640, 1280, 640, 64, 128))]
    _, size = place(chain)
    assert size == 640 + 1280


def test_a_gap_is_used_again() -> None:
    offsets, size = place([Lifetime(64, 0, 9), Lifetime(640, 0, 1), Lifetime(640, 2, 3)])
    assert offsets[1] == offsets[2]
    assert size == 640 + 64


def test_nothing_needs_no_memory() -> None:
    assert place([]) == ([], 0)
