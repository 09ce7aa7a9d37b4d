"""A worker that is killed costs the steps since the checkpoint, and nothing else."""

from __future__ import annotations

from pathlib import Path

import torch

from cvperf.train.distributed import launch

import toy_training  # isort: skip
from subprocesses import TORCHRUN, finish, start  # isort: skip

DIE_AT = 7  # in the second epoch; the newest checkpoint is of step 6


def test_a_run_whose_worker_was_killed_ends_with_the_same_weights_bit_for_bit(
    tmp_path: Path,
) -> None:
    options = ("--standalone", "--nproc-per-node=2", "--max-restarts=1", "--monitor-interval=0.1")
    weights = tmp_path / "weights.pt"
    script = (toy_training.__file__, str(tmp_path / "killed"), str(weights), str(DIE_AT))
    # Without this, workers of the restart read addresses of the killed ones from the agent's store
    # and may wait for them for minutes (torch 2.14).
    fresh = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    (printed,) = finish([start([*TORCHRUN, *options, *script], **fresh)], timeout_s=90)
    assert f"killed before step {DIE_AT}" in printed
    assert "started at step 6, restart 1" in printed

    undisturbed = launch.run(toy_training.train, 2, tmp_path / "undisturbed")
    found = torch.load(weights)
    assert all(torch.equal(a, b) for a, b in zip(found, undisturbed[0], strict=True))
