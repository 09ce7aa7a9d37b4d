"""Which of these tests a process collects: kernels are interpreted, compiled, or run on a GPU.

- ``TRITON_INTERPRET=1``: the kernels in Triton's interpreter (``make triton``).
- ``CVPERF_TEST_GPU=1``: the same tests on this machine's GPU (``make gpu``).
- neither, as in a plain ``pytest``: only what compiles without a GPU, in ``test_offline.py``.
"""

from __future__ import annotations

import pytest

from tests.kernels.triton.harness import INTERPRETED, ON_GPU

collect_ignore_glob: list[str] = []
if INTERPRETED:
    from tests.kernels.triton import interpreter

    interpreter.install()
    collect_ignore_glob = ["test_offline.py"]
elif ON_GPU:
    collect_ignore_glob = ["test_offline.py"]
else:
    collect_ignore_glob = ["test_[!o]*.py", "test_o[!f]*.py"]

pytest.importorskip("triton", reason="comes with torch's CUDA wheels")
