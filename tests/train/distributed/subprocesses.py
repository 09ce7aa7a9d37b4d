"""Commands that end: in time, and with all that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
MARK = f"CVPERF_TEST=of-{os.getpid()}"


def start(command: Sequence[str], **variables: str) -> subprocess.Popen[str]:
    """Start a command in which cvperf is importable; its processes have ``MARK``."""
    name, _, value = MARK.partition("=")
    ours = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", name: value}
    return subprocess.Popen(
        command,
        env={**os.environ, **ours, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(processes: Sequence[subprocess.Popen[str]], timeout_s: float) -> list[str]:
    """Wait for commands, and return what each printed.

    Raises:
        AssertionError: one failed or took too long, with what all printed. None is left running.
    """
    printed, late = [], False
    try:
        for process in processes:
            try:
                printed.append(process.communicate(timeout=timeout_s)[0])
            except subprocess.TimeoutExpired:
                late = True
                kill_all()
                printed.append(process.communicate()[0])
    finally:
        kill_all()
        for process in processes:
            process.wait()
    assert not late, f"took longer than {timeout_s} s:\n" + "\n".join(printed)
    assert not any(process.returncode for process in processes), "\n".join(printed)
    return printed


def kill_all() -> None:
    """Kill every process that a command of ours started. torchrun's workers have sessions of their
    own, so that the command's process group is not enough."""
    kill_with(MARK)


def kill_with(*variables: str) -> int:
    """Kill every process whose environment has all of these, as ``NAME=value``; how many."""
    wanted = {variable.encode() for variable in variables}
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is of another user
            if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
    return killed
