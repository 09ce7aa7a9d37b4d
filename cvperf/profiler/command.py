"""``cvperf profile``: resolve, profile, print, write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from cvperf.bench import machine, peaks
from cvperf.bench.results import ResultsError
from cvperf.bench.roofline import Ceilings
from cvperf.page import templates
from cvperf.profiler import check as checks
from cvperf.profiler import ncu as counters
from cvperf.profiler import printout, speedups
from cvperf.profiler.session import Profile, profile_target
from cvperf.profiler.target import ProfileError, resolve

ERRORS = (ProfileError, ResultsError, ImportError)
"""What ``run`` raises of its own: each carries its way out, so that no traceback is wanted."""


def run(
    target: str,
    output: Path,
    *,
    arguments: Sequence[str] = (),
    device: str = "cpu",
    batch: int = 1,
    image_size: int = 0,
    repeats: int = 5,
    threads: int = 0,
    ledger: Path | None = None,
    check: bool = False,
    ncu: bool = False,
) -> int:
    """Profile ``target``, print what was found and write it into ``output``.

    Args:
        target: a Python file, ``module:function``, or a model of torchvision or timm.
        output: the folder; it is made.
        arguments: for a Python file.
        device: ``"cpu"`` or ``"cuda"``: where a model runs.
        batch: images at once, for a model.
        image_size: pixels on a side, for a model; 0 for its own.
        repeats: passes with the profiler, and as many without.
        threads: of the CPU; 0 as torch has them.
        ledger: results of ``cvperf bench kernels``; None for those that come with cvperf.
        check: also run the target inside ``cvperf.use``, and say what it gained.
        ncu: also run it under NVIDIA Nsight Compute for the hardware counters.

    Returns:
        The exit code: 0.

    Raises:
        One of ERRORS, or whatever the target itself raises.
    """
    _check(device, ledger)
    if threads:
        torch.set_num_threads(threads)
    # torch.profiler's log of its own starts and stops would stand between the lines printed here.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    console = Console(highlight=False)
    places = [target, device, str(batch), str(image_size), *arguments]
    if ncu:
        counters.command(places, output / "counters.ncu-rep")  # if ncu is missing, say so at once
    with console.status(f"running {target}"):
        found = resolve(
            target,
            arguments=arguments,
            device=device,
            batch=batch,
            image_size=image_size or None,
        )
        if check and not found.repeatable:
            raise ProfileError(f"--check runs the target again, and {target!r} is run once only")
        result = profile_target(found, repeats)
        result.ledger = speedups.load(ledger, result.device)
    with console.status("measuring this machine's ceilings"):
        result.ceilings = result.ledger.ceilings or _measured(result)
    printout.show(result, console)
    written = result.export(output)
    if ncu:
        printout.show_counters(counters.measure(places, output), console)
    if check:
        with console.status("running it with and without cvperf.use, in turns"):
            tried = checks.check(found, result.advice, repeats)
        printout.show_check(tried, console)
    printout.show_files(written, console)
    return 0


def _check(device: str, ledger: Path | None) -> None:
    """Before the target runs, which may take long: what would fail after it."""
    if device not in ("cpu", "cuda"):
        raise ProfileError(f"device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ProfileError("device is cuda, and torch finds no GPU (torch.cuda.is_available())")
    if ledger is not None and not ledger.exists():
        raise ProfileError(f"there is no ledger {str(ledger)!r}; make one: {speedups.MAKE_ONE}")
    templates("cvperf.profiler")


def _measured(result: Profile) -> Ceilings:
    """In about 4 seconds, where the ledger has no ceilings of this machine at this thread count."""
    return Ceilings.from_rows(
        peaks.measure(result.device, environment=machine.record(result.device))
    )
