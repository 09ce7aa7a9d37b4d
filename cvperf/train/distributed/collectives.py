"""What collectives should take: closed forms in latency and bandwidth (the alpha-beta model).

A message of m bytes occupies the sender's and the receiver's port for m / bandwidth and arrives a
latency later; ports send and receive at once. tests hold every form here to a simulation of all
messages (``simulation.py``) within 5 %.

Ring: Patarasuk and Yuan, "Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations",
2009. Double binary tree: Sanders, Speck and Traeff, "Two-Tree Algorithms for Full Bandwidth
Broadcast, Reduction and Scan", 2009, as in NCCL. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

from cvperf.errors import ArgumentError

CHUNK = 256 * 1024
"""Bytes that travel a tree at a time."""


@dataclass(frozen=True)
class Link:
    """A port and the way to the next: latency in seconds, bytes per second each way."""

    latency: float
    bandwidth: float

    def seconds(self, size: float) -> float:
        """Of one message."""
        return self.latency + size / self.bandwidth


@dataclass(frozen=True)
class Cluster:
    """Nodes of some GPUs, each GPU with a link inside the node and one to other nodes."""

    gpus_per_node: int
    inner: Link
    outer: Link

    def nodes(self, gpus: int) -> int:
        """How many nodes ``gpus`` fill; the last may be partly empty."""
        return ceil(gpus / self.gpus_per_node)


def ring(link: Link, processes: int, size: float) -> float:
    """All-reduce around a ring: reduce-scatter, then all-gather, in slices of size / processes."""
    return 2 * ring_pass(link, processes, size)


def ring_pass(link: Link, processes: int, size: float) -> float:
    """Reduce-scatter or all-gather around a ring: half of an all-reduce."""
    return (processes - 1) * link.seconds(size / processes)


def tree(link: Link, processes: int, size: float, chunk: float = CHUNK) -> float:
    """All-reduce in two binary trees, half of the data in each, up and down again in chunks.

    A process is inside one tree and a leaf of the other, so each port carries 2 size. The first
    chunk climbs and descends log2(processes) levels, at each of which a port serves two children;
    further chunks hide up to two of these turns, which is what simulations show. The trees of fewer
    than 4 processes are chains, which is a ring.
    """
    if processes < 4:
        return ring(link, processes, size)
    chunks = max(1, round(size / 2 / chunk))
    depth = ceil(log2(processes))
    turns = 4 * depth - 6 - min(chunks - 1, 2)
    return 2 * depth * link.latency + (2 * size + turns * size / 2 / chunks) / link.bandwidth


def flat_ring(cluster: Cluster, gpus: int, size: float) -> float:
    """All-reduce around rings through all GPUs, one ring for each GPU of a node.

    The rings leave a node by different GPUs, so that all its outer links carry data. A step of all
    rings takes as long as the slowest of: the mean hop, and what a port must carry in a step. Two
    more while queues fill and drain are what simulations show.
    """
    g = cluster.gpus_per_node
    if gpus <= g:
        return ring(cluster.inner, gpus, size)
    part = size / (g * gpus)
    hop = ((g - 1) * cluster.inner.seconds(part) + cluster.outer.seconds(part)) / g
    ports = max((g - 1) * part / cluster.inner.bandwidth, part / cluster.outer.bandwidth)
    return 2 * (gpus - 1) * max(hop, ports) + 2 * ports


def hierarchical(cluster: Cluster, gpus: int, size: float, between: str = "tree") -> float:
    """Reduce-scatter inside nodes, all-reduce of each GPU's part between nodes, all-gather inside.

    Args:
        cluster: the links.
        gpus: whole nodes of them.
        size: bytes to reduce.
        between: "ring" or "tree" among the GPUs of the same place in their nodes.
    """
    g = cluster.gpus_per_node
    if gpus <= g:
        return {"ring": ring, "tree": tree}[between](cluster.inner, gpus, size)
    across = {"ring": ring, "tree": tree}[between](cluster.outer, cluster.nodes(gpus), size / g)
    return 2 * ring_pass(cluster.inner, g, size) + across


def parameter_server(cluster: Cluster, gpus: int, size: float, servers: int = 1) -> float:
    """Every GPU sends its gradients to servers, which share them evenly, and gets the result.

    A server has as many outer links as a node. Workers reach it by theirs; nothing is added up
    inside nodes first.

    Raises:
        ArgumentError: there are more servers than nodes, so that workers' links are what counts.
    """
    if servers > cluster.nodes(gpus):
        raise ArgumentError(
            f"servers must be at most the number of nodes, {cluster.nodes(gpus)}, got {servers}"
        )
    share = size / (servers * cluster.gpus_per_node)
    return 2 * (
        cluster.outer.latency + max(gpus, cluster.gpus_per_node) * share / cluster.outer.bandwidth
    )
