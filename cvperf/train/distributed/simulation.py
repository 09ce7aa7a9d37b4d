"""Collectives message by message: what the closed forms of ``collectives.py`` are held to.

A list of messages, each with the messages that must have arrived before it can leave, is played
event by event on ports that send one message at a time and receive one at a time. A switch between
them holds messages whose receiver is busy.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

from cvperf.train.distributed.collectives import CHUNK, Cluster, Link


@dataclass
class Network:
    """Messages to play."""

    _sources: list[Hashable] = field(default_factory=list)
    _targets: list[Hashable] = field(default_factory=list)
    _costs: list[tuple[float, float]] = field(default_factory=list)
    _needs: list[tuple[int, ...]] = field(default_factory=list)

    def send(
        self, source: Hashable, target: Hashable, size: float, link: Link, *needs: int | None
    ) -> int:
        """Add a message from one port to another, which leaves after ``needs`` have arrived."""
        self._sources.append(source)
        self._targets.append(target)
        self._costs.append((size / link.bandwidth, link.latency))
        self._needs.append(tuple(need for need in needs if need is not None))
        return len(self._sources) - 1

    def play(self) -> float:
        """Seconds until the last message has arrived."""
        waiting = [len(needs) for needs in self._needs]
        followers: dict[int, list[int]] = defaultdict(list)
        for message, needs in enumerate(self._needs):
            for need in needs:
                followers[need].append(message)
        events = [(0.0, message) for message, count in enumerate(waiting) if not count]
        heapq.heapify(events)
        sending: dict[Hashable, float] = defaultdict(float)
        receiving: dict[Hashable, float] = defaultdict(float)
        arrived: dict[int, float] = defaultdict(float)
        while events:
            now, message = heapq.heappop(events)
            source, target = self._sources[message], self._targets[message]
            if sending[source] > now:
                heapq.heappush(events, (sending[source], message))
                continue
            busy, latency = self._costs[message]
            sending[source] = now + busy
            receiving[target] = max(now, receiving[target]) + busy  # in the switch until it is free
            end = receiving[target] + latency
            arrived[message] = end
            for follower in followers[message]:
                waiting[follower] -= 1
                arrived[follower] = max(
                    arrived[follower], end
                )  # its earliest start, until it is sent
                if not waiting[follower]:
                    heapq.heappush(events, (arrived[follower], follower))
        return max(arrived.values(), default=0.0)


def ring(link: Link, processes: int, size: float, passes: int = 2) -> float:
    """All-reduce around a ring, or half of it with one pass."""
    network = Network()
    before: list[int | None] = [None] * processes
    for _ in range(passes * (processes - 1)):
        before = [
            network.send(rank, (rank + 1) % processes, size / processes, link, before[rank - 1])
            for rank in range(processes)
        ]
    return network.play()


def tree(link: Link, processes: int, size: float, chunk: float = CHUNK) -> float:
    """All-reduce in a double binary tree."""
    network = Network()
    chunks = max(1, round(size / 2 / chunk))
    for _ in range(chunks):
        for parents in _double_tree(processes):
            _reduce_and_broadcast(network, link, parents, size / 2 / chunks)
    return network.play()


def _double_tree(processes: int) -> tuple[list[int], list[int]]:
    """The parents of two binary trees, -1 at the root; who is inside one is a leaf of the other."""
    one = [-1] * processes
    for rank in range(1, processes):
        bit = rank & -rank
        up = (rank ^ bit) | (bit << 1)
        one[rank] = up if up < processes else rank ^ bit
    other = [-1] * processes
    for rank, parent in enumerate(one):
        if processes % 2:
            other[(rank + 1) % processes] = (parent + 1) % processes if parent >= 0 else -1
        else:
            other[processes - 1 - rank] = processes - 1 - parent if parent >= 0 else -1
    return one, other


def _reduce_and_broadcast(network: Network, link: Link, parents: list[int], size: float) -> None:
    children: dict[int, list[int]] = defaultdict(list)
    for rank, parent in enumerate(parents):
        children[parent].append(rank)

    def reduce(rank: int) -> list[int]:
        return [network.send(child, rank, size, link, *reduce(child)) for child in children[rank]]

    def broadcast(rank: int, *needs: int) -> None:
        for child in children[rank]:
            broadcast(child, network.send(rank, child, size, link, *needs))

    (root,) = children[-1]
    broadcast(root, *reduce(root))


def flat_ring(cluster: Cluster, gpus: int, size: float) -> float:
    """All-reduce around rings through all GPUs, one for each GPU of a node."""
    g = cluster.gpus_per_node
    network = Network()
    for leaves in range(g):  # this ring goes through a node so that GPU `leaves` is the last in it
        order = [node * g + (leaves + 1 + i) % g for node in range(gpus // g) for i in range(g)]
        before: list[int | None] = [None] * gpus
        for _ in range(2 * (gpus - 1)):
            messages: list[int | None] = []
            for place, rank in enumerate(order):
                after = order[(place + 1) % gpus]
                link, kind = (
                    (cluster.inner, "inner")
                    if rank // g == after // g
                    else (cluster.outer, "outer")
                )
                messages.append(
                    network.send(
                        (kind, rank), (kind, after), size / g / gpus, link, before[place - 1]
                    )
                )
            before = messages
    return network.play()


def parameter_server(cluster: Cluster, gpus: int, size: float, servers: int = 1) -> float:
    """Every GPU to every link of the servers, and back when a link has heard from all."""
    network = Network()
    endpoints = servers * cluster.gpus_per_node
    part, link = size / endpoints, cluster.outer
    pushed: dict[int, list[int]] = defaultdict(list)
    for turn in range(max(gpus, endpoints)):
        for gpu in range(gpus):  # in turns, so that they do not all start with the same server
            endpoint = (gpu + turn) % max(gpus, endpoints)
            if endpoint < endpoints:
                message = network.send(gpu, ("server", endpoint), part, link)
                pushed[endpoint].append(message)
    for turn in range(max(gpus, endpoints)):
        for endpoint in range(endpoints):
            gpu = (endpoint + turn) % max(gpus, endpoints)
            if gpu < gpus:
                network.send(("server", endpoint), gpu, part, link, *pushed[endpoint])
    return network.play()
