"""What a row says of the machine: memory, energy, versions."""

from __future__ import annotations

import sys

import pytest
import torch

from cvperf.bench import cuda_clock, energy, machine, memory
from cvperf.bench.contender import Contender


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset a process's peak memory")
def test_the_peak_of_a_call_is_what_it_had_in_use_at_its_highest() -> None:
    def run() -> float:
        large = torch.ones(64 << 18)  # 64 MiB
        small = large[:10].clone()
        del large
        return float(small.sum())

    for _ in range(2):  # the second time the allocator may hold memory already
        answer, peak = memory.peak_of(run, "cpu")
        assert answer == 10
        assert peak is not None
        assert peak == pytest.approx(64 << 20, rel=0.1)


def test_energy_of_a_call_is_what_the_counter_moved() -> None:
    calls: list[int] = []
    joules = energy.of_call(lambda: calls.append(1), lambda: 3.0 * len(calls), lambda: None)
    assert joules == pytest.approx(3)


def test_a_counter_that_began_anew_tells_nothing() -> None:
    readings = iter([100.0, 2.0])
    assert energy.of_call(lambda: None, lambda: next(readings), lambda: None) is None


def test_rows_record_processor_threads_compiler_and_commit() -> None:
    facts = machine.record()
    assert facts["threads"] == str(torch.get_num_threads())
    assert facts["compiler"].startswith(("gcc ", "clang "))
    assert facts["torch"]
    assert {"cpu", "isa", "cpu_mhz", "commit", "date", "cvperf"} <= set(facts)
    assert all(isinstance(text, str) for text in facts.values())


def test_rotating_buffers_takes_each_set_in_turn() -> None:
    turns: list[int] = []
    sets = [Contender(lambda i=i: turns.append(i)) for i in range(3)]
    rotating = cuda_clock.rotating(sets)
    for _ in range(5):
        rotating.run()
    assert turns == [0, 1, 2, 0, 1]
