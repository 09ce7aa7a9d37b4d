"""Two hosts: two network namespaces with a cable between them, and torchrun in each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import host_of_two  # isort: skip
from distributed_toys import furthest, gradients, network, pictures  # isort: skip
from subprocesses import TORCHRUN, finish, start  # isort: skip

HOSTS = [f"cvperf-{os.getpid()}-{i}" for i in range(2)]
CABLE = ["eth0", "eth0"]
ADDRESSES = ["10.213.0.1", "10.213.0.2"]
MEGABITS = 25
FORBIDDEN = ("Operation not permitted", "Permission denied", "Operation not supported")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


def connect() -> None:
    """Make the hosts and the cable between them."""
    for host in HOSTS:
        ip("netns", "add", host)
    ip(
        *("link", "add", CABLE[0], "netns", HOSTS[0], "type", "veth"),
        *("peer", "name", CABLE[1], "netns", HOSTS[1]),
    )
    for host, end, address in zip(HOSTS, CABLE, ADDRESSES, strict=True):
        ip("-n", host, "address", "add", f"{address}/24", "dev", end)
        ip("-n", host, "link", "set", end, "up")
        ip("-n", host, "link", "set", "lo", "up")


@pytest.fixture(scope="module")
def limited() -> Iterator[bool]:
    """Two hosts; whether their cable has the bandwidth it is to have.

    Skipped where they cannot be made. In CI iproute2 is there (.ci/run), and its absence a failure.
    """
    if not shutil.which("ip"):
        assert not os.environ.get("CI"), "iproute2 is missing: apt-get install iproute2"
        pytest.skip("two hosts on one machine need the command ip: apt-get install iproute2")
    try:
        connect()
        yield all(limit(host, end) for host, end in zip(HOSTS, CABLE, strict=True))
    except subprocess.CalledProcessError as error:
        if any(word in error.stderr for word in FORBIDDEN):
            pytest.skip(f"two hosts need root: {' '.join(error.cmd)}: {error.stderr.strip()}")
        raise
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", host], capture_output=True, timeout=20)


def limit(host: str, end: str) -> bool:
    """Limit what an end sends; False where the kernel or iproute2 cannot."""
    if not shutil.which("tc"):
        return False
    rate = ("rate", f"{MEGABITS}mbit", "burst", "64kb", "latency", "100ms")
    command = ["ip", "netns", "exec", host, "tc", "qdisc", "add", "dev", end, "root", "tbf", *rate]
    return subprocess.run(command, capture_output=True, timeout=20).returncode == 0


@pytest.fixture(scope="module")
def results(limited: bool, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("hosts")
    hosts = []
    for rank, (host, end) in enumerate(zip(HOSTS, CABLE, strict=True)):
        options = ("--nnodes=2", "--nproc-per-node=1", f"--node-rank={rank}")
        master = (f"--master-addr={ADDRESSES[0]}", "--master-port=29517")
        script = (host_of_two.__file__, end, str(folder))
        command = ["ip", "netns", "exec", host, *TORCHRUN, *options, *master, *script]
        hosts.append(start(command, GLOO_SOCKET_IFNAME=end))
    finish(hosts, timeout_s=120)
    return [torch.load(Path(folder, f"{rank}.pt")) for rank in range(2)]


def test_two_hosts_have_the_gradients_of_one_process(results: list[dict]) -> None:
    expected = gradients(network(norm=False), *pictures(host_of_two.BATCH))
    for result in results:
        assert furthest(result["gradients"], expected) < 1e-6


def test_the_counted_payload_is_what_goes_over_the_wire(results: list[dict]) -> None:
    """An all-reduce of two sends its payload once; headers and barriers are the rest."""
    for step in results[0]["steps"]:
        assert step["payload"] <= step["wire"] <= 1.15 * step["payload"] + 20_000
    whole, low_rank = results[0]["steps"][0], results[0]["steps"][-1]
    assert whole["payload"] >= 50 * low_rank["payload"]


def test_on_a_slow_cable_low_rank_gradients_are_faster(results: list[dict], limited: bool) -> None:
    if not limited:
        pytest.skip("tc cannot limit bandwidth here (tbf): nothing to see on a fast cable")
    steps = [step["seconds"] for step in results[0]["steps"]]
    whole, low_rank = steps[1 : host_of_two.START], steps[host_of_two.START + 1 :]
    assert min(whole) > 0.8 * results[0]["steps"][0]["payload"] * 8 / (MEGABITS * 1e6)
    assert min(whole) > 3 * min(low_rank)
