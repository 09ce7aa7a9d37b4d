"""What ships compiles for every architecture, without spills and within its budget.

It is compiled by a process as on a user's machine: from an installed package, with neither nvcc on
its path nor a driver. The tests find what that process left in the cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cvperf
from cvperf.backends.cuda import build, cache, offline, shipped
from cvperf.backends.gpu.model import ARCHITECTURES
from cvperf.backends.gpu.shipped import Call
from tests.kernels.budgets import Budgets

pytest.importorskip("cuda.core", reason="comes with the extra cuda13")

CALLS = list(shipped.calls())
BUDGETS = Budgets("cuda")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cache with everything that ships, made by ``cvperf cache build``; what that printed."""
    package = tmp_path_factory.mktemp("installed") / "cvperf"
    shutil.copytree(Path(cvperf.__file__).parent, package)  # with kernels in place of a link
    folder = tmp_path_factory.mktemp("cache")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CUDA_HOME", "CUDA_PATH", "LD_LIBRARY_PATH")
    }
    environment |= {"PATH": "", "PYTHONPATH": str(package.parent), "CVPERF_CACHE": str(folder)}
    architectures = [f"--arch={capability}" for capability in ARCHITECTURES]
    command = [sys.executable, "-m", "cvperf.cli", "cache", "build", *architectures]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVPERF_CACHE", str(folder))
        yield done.stdout


def test_an_installation_without_nvcc_and_driver_compiles_what_ships(built: str) -> None:
    wanted = build.wanted(ARCHITECTURES.values())
    assert len(cache.entries()) == len(wanted)
    assert f"{len(wanted)} kernels" in built


@pytest.mark.parametrize("capability", ARCHITECTURES)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.op}: {call.name}")
def test_it_compiles_within_its_budget(call: Call, capability: int, built: str) -> None:
    with offline.compiling(capability) as compiled:
        call.run()
    BUDGETS.check(call, capability, compiled, sizes=BUDGETS.current)


def test_what_is_shown_and_limited_is_what_ships() -> None:
    BUDGETS.check_names(CALLS)
