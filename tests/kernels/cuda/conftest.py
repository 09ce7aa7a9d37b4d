"""Which of these tests a process collects: kernels are emulated, run on a GPU, or compiled.

- ``CVPERF_EMULATE_CUDA=1``: the kernels in the emulator (``make emulated``).
- ``CVPERF_TEST_GPU=1``: the same tests on this machine's GPU (``make gpu``).
  Under a sanitizer each test runs with its first parameters only: what it finds does not depend on
  the numbers, and every kernel is built anew for it.
- neither, as in a plain ``pytest``: what compiles without a GPU, in ``test_offline.py``.
"""

from __future__ import annotations

import itertools

import pytest

from tests.kernels.cuda.emulation import SANITIZER
from tests.kernels.cuda.harness import ON_GPU, emulated

collect_ignore_glob: list[str] = []
if emulated() or ON_GPU:
    collect_ignore_glob = ["test_offline*.py"]
else:
    collect_ignore_glob = ["test_[!o]*.py", "test_o[!f]*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SANITIZER:
        tests = itertools.groupby(items, lambda item: item.nodeid.split("[")[0])
        items[:] = [next(cases) for _, cases in tests]
