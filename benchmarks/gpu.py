"""``make gpu``: every kernel on this GPU, checked and timed, into the ledger and docs/gpu.md.

One command, under nine minutes. First the CUDA kernels are compiled, with every processor. Then the
kernels' tests, as they run interpreted or emulated. Then the suite: the cases marked quick come
first, the others as long as there is time. Each contender's answer is held against the float64
reference before it is timed, so that pass proves a kernel too.

Not yet run on hardware.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from cvperf.backends.cuda import build
from cvperf.backends.gpu.machine import machine
from cvperf.bench import session
from cvperf.bench.peers import ours, select
from cvperf.benchmarks import gpu_compiled, gpu_crossovers, gpu_page
from cvperf.benchmarks.suites import SUITES
from cvperf.errors import CompileError

ROOT = Path(__file__).resolve().parents[1]
LEDGER = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/gpu.md"
CHECK_S = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page; ``--page`` and ``--compile`` write it without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m cvperf.benchmarks.gpu", description=__doc__)
    parser.add_argument("--page", action="store_true", help="only write docs/gpu.md anew")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile what ships for every architecture, and write docs/gpu.md; needs no GPU",
    )
    parser.add_argument("--seconds", type=float, default=300, help="begin no case after these")
    options = parser.parse_args(arguments)
    passed = True
    if options.compile:
        for backend, file in gpu_compiled.FILES.items():
            gpu_compiled.write(ROOT / file, backend)
    elif not options.page:
        if not torch.cuda.is_available():
            print("error: torch sees no GPU here; `--page` writes docs/gpu.md without one")
            return 2
        passed = check()
        measure(options.seconds)
    gpu_crossovers.write(LEDGER)
    PAGE.write_text(gpu_page.render(LEDGER))
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0 if passed else 1


def check() -> bool:
    """The tests of the kernels on this GPU; whether all passed within their time."""
    start = time.monotonic()
    passed = True
    try:
        build.build([machine(torch.device("cuda"))])
    except CompileError as error:  # the tests of other kernels can still run
        print(error)
        passed = False
    environment = {**os.environ, "CVPERF_TEST_GPU": "1"}
    for folder in ("tests/kernels/cuda", "tests/kernels/triton"):
        command = [sys.executable, "-m", "pytest", "-q", folder]
        left = CHECK_S - (time.monotonic() - start)
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, timeout=left, check=False)
            passed = passed and done.returncode == 0
        except subprocess.TimeoutExpired:
            print(f"{folder} did not end within the {CHECK_S} seconds of all tests")
            passed = False
    return passed


def measure(seconds: float) -> None:
    """The kernel suite against the peers on this GPU, into its folder of the ledger."""
    shapes = sorted(SUITES["kernels"](False, "cuda"), key=lambda shape: not shape.quick)
    out = LEDGER / slug(torch.cuda.get_device_name()) / "kernels.jsonl"
    rows = session.run(
        {"kernels": shapes},
        (*ours.contenders("cuda"), *select(None, "cuda")),
        out,
        device="cuda",
        limit_s=seconds,
    )
    wrong = [row for row in rows if row.status in ("wrong", "failed")]
    print(f"{len(rows)} rows in {out.relative_to(ROOT)}, {len(wrong)} wrong or failed")
    for row in wrong:
        print(f"  {row.status}: {row.contender} on {row.op} {row.case}: {row.note}")


def slug(name: str) -> str:
    """A device's name as a folder's: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    raise SystemExit(main())
