"""Predictions: closed forms against a simulation of every message, and what a step is made of."""

from __future__ import annotations

import pytest

from cvperf.errors import ArgumentError
from cvperf.train.distributed import collectives, scaling, simulation
from cvperf.train.distributed.collectives import Cluster, Link
from cvperf.train.distributed.compression import Compression

LINK = Link(latency=10e-6, bandwidth=25e9)
CLUSTER = Cluster(8, Link(3e-6, 235e9), LINK)
SIZES = [1e5, 1e6, 5e6, 25e6]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("processes", [2, 8, 16, 32])
def test_rings_and_trees_take_what_their_messages_take(processes: int, size: float) -> None:
    ring = collectives.ring(LINK, processes, size)
    assert ring == pytest.approx(simulation.ring(LINK, processes, size), rel=1e-9)
    half = collectives.ring_pass(LINK, processes, size)
    assert half == pytest.approx(simulation.ring(LINK, processes, size, passes=1), rel=1e-9)
    if processes >= 8:
        tree = collectives.tree(LINK, processes, size)
        assert tree == pytest.approx(simulation.tree(LINK, processes, size), rel=0.05)


@pytest.mark.parametrize("size", SIZES)
def test_rings_through_nodes_take_what_their_messages_take(size: float) -> None:
    for gpus in (16, 24):
        formula = collectives.flat_ring(CLUSTER, gpus, size)
        assert formula == pytest.approx(simulation.flat_ring(CLUSTER, gpus, size), rel=0.05)


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_a_parameter_server_takes_what_its_messages_take(servers: int) -> None:
    formula = collectives.parameter_server(CLUSTER, 24, 25e6, servers)
    simulated = simulation.parameter_server(CLUSTER, 24, 25e6, servers)
    assert formula == pytest.approx(simulated, rel=0.05)


def test_both_trees_use_every_process_and_nobody_is_inside_both() -> None:
    for processes in (4, 5, 8, 13):
        inside = [set(parents) - {-1} for parents in simulation._double_tree(processes)]
        assert all(parents.count(-1) == 1 for parents in simulation._double_tree(processes))
        if processes % 2 == 0:
            assert not inside[0] & inside[1]


def test_trees_win_where_latency_counts_and_rings_where_bandwidth_does() -> None:
    def faster(size: float) -> str:
        tree, ring = (collectives.hierarchical(CLUSTER, 512, size, way) for way in ("tree", "ring"))
        return "tree" if tree < ring else "ring"

    assert (faster(1e5), faster(1e10)) == ("tree", "ring")


def test_more_servers_than_nodes_are_refused() -> None:
    with pytest.raises(ArgumentError, match="at most the number of nodes, 2, got 3"):
        collectives.parameter_server(CLUSTER, 16, 1e6, servers=3)


SHAPES = [(64, 32, 3, 3), (64,), (1000, 2048), (1000,)]
GPU = scaling.Gpu(bandwidth=2e12, launch=5e-6)


def test_a_step_hides_what_the_backward_is_long_enough_for() -> None:
    quick = scaling.step(0.1, SHAPES, lambda size: 1e-4)
    assert quick.exposed == pytest.approx(
        1e-4 + 8.4e-6
    )  # the last bucket has nothing to hide behind
    slow = scaling.step(0.1, SHAPES, lambda size: size / 1e6)
    assert slow.exposed > 1
    assert slow.efficiency == pytest.approx(0.1 / (0.1 + slow.exposed))


def test_compression_pays_on_a_slow_network_and_costs_on_a_fast_one() -> None:
    def efficiency(bandwidth: float, way: Compression) -> float:
        return scaling.step(
            0.01, SHAPES, lambda size: size / bandwidth, compression=way, gpu=GPU
        ).efficiency

    low_rank, none = Compression("powersgd", rank=1), Compression()
    assert efficiency(1e8, low_rank) > 1.5 * efficiency(1e8, none)
    assert efficiency(1e12, low_rank) < efficiency(1e12, none)


def test_what_cannot_be_predicted_is_refused() -> None:
    with pytest.raises(ArgumentError, match="gpu must be given to know what fp16 costs"):
        scaling.step(0.1, SHAPES, lambda size: 0.0, compression=Compression("fp16"))
    with pytest.raises(ArgumentError, match="compute must be above 0 seconds, got 0"):
        scaling.step(0, SHAPES, lambda size: 0.0)
