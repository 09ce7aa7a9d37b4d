"""Networks that do not fit one device: stages, one a process, that take micro-batches in turn.

torch.distributed.pipelining cuts and runs; here it is decided where to cut. Schedules: GPipe (Huang
et al., 2019) and 1F1B (PipeDream-Flush; Narayanan et al., 2021), which holds fewer activations.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import pipelining
from torch.utils.flop_counter import FlopCounterMode

from cvperf.errors import ArgumentError, describe
from cvperf.train.distributed.blocks import blocks, parameter_bytes

_SCHEDULES = {"gpipe": pipelining.ScheduleGPipe, "1f1b": pipelining.Schedule1F1B}
_BALANCES = ("parameters", "flops")


@dataclass(frozen=True)
class Pipeline:
    """How a network is cut and run.

    Attributes:
        microbatches: parts of a batch, equally large. Of the time, (stages - 1) / (microbatches +
            stages - 1) is spent waiting (the bubble), in either schedule.
        schedule: "gpipe": all forwards, then all backwards; "1f1b": each backward as early as
            possible, so that a process holds activations of at most ``stages`` micro-batches.
        balance: what the heaviest stage shall have least of: "parameters" (bytes) or "flops".
    """

    microbatches: int = 4
    schedule: Literal["gpipe", "1f1b"] = "1f1b"
    balance: Literal["parameters", "flops"] = "parameters"

    def __post_init__(self) -> None:
        if self.microbatches < 1:
            raise ArgumentError(f"microbatches must be 1 or more, got {self.microbatches}")
        if self.schedule not in _SCHEDULES:
            raise ArgumentError(
                f"schedule must be one of {', '.join(_SCHEDULES)}; got {describe(self.schedule)}"
            )
        if self.balance not in _BALANCES:
            raise ArgumentError(
                f"balance must be one of {', '.join(_BALANCES)}; got {describe(self.balance)}"
            )


class Stage:
    """This process's part of a network."""

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        loss: Callable[[Tensor, Tensor], Tensor],
        config: Pipeline | None = None,
        *,
        device: torch.device | str = "cpu",
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Cut a network into as many stages as there are processes, and take this process's.

        The network is traced (``torch.export``) in the mode it is in: training or evaluation stays
        as it was. It is not changed, and the stage has its very parameters. On the device "meta" it
        takes no memory, and the stage gets memory of its own, to be filled by :meth:`load`: so no
        process ever holds the whole network.

        Batch norm in training sees micro-batches, as it does in gradient accumulation.

        Args:
            model: a classifier or anything else from one tensor to one.
            images: a micro-batch, for its shape and dtype: [n, C, H, W].
            loss: of outputs and targets of a micro-batch, their mean.
            config: how; the defaults of :class:`Pipeline` if None.
            device: where the stage computes.
            group: the processes, one a stage; all of them if None.

        Raises:
            ArgumentError: the network has fewer blocks than there are processes, a parameter that
                several stages use, or on "meta" buffers that no checkpoint has.
        """
        config = config or Pipeline()
        processes, rank = dist.get_world_size(group), dist.get_rank(group)
        skeleton = _skeleton(model)
        example = torch.empty_like(images, device="meta")
        cuts = cut_points(skeleton, example, processes, config.balance)
        spec = dict.fromkeys(cuts, pipelining.SplitPoint.BEGINNING)
        pipe = pipelining.pipeline(skeleton, (example,), split_spec=spec)
        if pipe.replicated_params:
            raise ArgumentError(
                f"model has parameters that several stages use, {pipe.replicated_params}: their "
                "gradients would be in parts. Use fewer processes, or shard the model instead"
            )
        self.module: nn.Module = pipe.get_stage_module(rank)
        """The stage's layers, by the names that the network gives them."""
        _fill(self.module, model, torch.device(device))
        self.first, self.last = rank == 0, rank == processes - 1
        stage = pipelining.stage.build_stage(
            self.module, rank, pipe.info(), torch.device(device), group
        )
        self._schedule = _SCHEDULES[config.schedule](stage, config.microbatches, loss)

    def step(self, images: Tensor | None = None, targets: Tensor | None = None) -> Tensor | None:
        """Forward and backward of a batch; all processes of the group call this together.

        Gradients are added to those of the stage's parameters: the mean over the whole batch.

        Args:
            images: [microbatches * n, C, H, W]; read by the first stage.
            targets: [microbatches * n, ...]; read by the last stage.

        Returns:
            The mean loss at the last stage, None elsewhere.
        """
        losses: list[Tensor] = []
        inputs = (images,) if self.first else ()
        if self.last:
            self._schedule.step(*inputs, target=targets, losses=losses)
            return torch.stack(losses).mean().detach()
        self._schedule.step(*inputs)
        return None

    def load(self, path: str | Path) -> None:
        """Read the stage's weights, and no others, from a safetensors file of the whole network.

        Raises:
            RuntimeError: the file lacks some (torch's, with their names).
        """
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            names = file.keys() & self.module.state_dict().keys()
            self.module.load_state_dict({name: file.get_tensor(name) for name in names})


def cut_points(
    model: nn.Module, images: Tensor, stages: int, balance: Literal["parameters", "flops"]
) -> list[str]:
    """The blocks that stages begin with, all but the first stage, so that the heaviest is lightest.

    Args:
        model: a network on the device "meta".
        images: [n, C, H, W], on "meta".
        stages: how many.
        balance: what is weighed.

    Raises:
        ArgumentError: the network has fewer blocks than ``stages``.
    """
    most = parameter_bytes(model) / stages
    ran: list[str] = []
    candidates = dict(blocks(model, most))
    hooks = [
        block.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name, block in candidates.items()
    ]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    names = list(dict.fromkeys(ran))  # a block that is called twice begins where it is called first
    if len(names) < stages:
        raise ArgumentError(
            f"model has {len(names)} blocks to cut between, and {stages} stages were asked for: "
            "use fewer processes"
        )
    if balance == "parameters":
        weights = [parameter_bytes(candidates[name]) for name in names]
    else:
        counts = counter.get_flop_counts()
        top = type(model).__name__
        weights = [sum(counts.get(f"{top}.{name}", {}).values()) for name in names]
    return [names[i] for i in _lightest(weights, stages)[1:]]


def _lightest(weights: Sequence[int], parts: int) -> tuple[int, ...]:
    """Where each of ``parts`` runs of weights starts if the heaviest run is to be lightest."""
    sums = [0, *accumulate(weights)]

    @cache
    def best(start: int, parts: int) -> tuple[int, tuple[int, ...]]:
        if parts == 1:
            return sums[-1] - sums[start], (start,)
        options = []
        for end in range(start + 1, len(weights) - parts + 2):
            rest, starts = best(end, parts - 1)
            options.append((max(sums[end] - sums[start], rest), (start, *starts)))
        # Of equals the latest: what weighs nothing, such as pooling, stays with what is before it,
        # so that less is sent.
        return min(options, key=lambda option: (option[0], [-start for start in option[1]]))

    return best(0, parts)[1]


def _skeleton(model: nn.Module) -> nn.Module:
    """The network without memory: tracing leaves marks, and they shall be on a copy."""
    memo: dict[int, Tensor] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, memo)


def _fill(stage: nn.Module, model: nn.Module, device: torch.device) -> None:
    """Give a stage of the skeleton the network's parameters and buffers, or memory of its own."""
    own = {*dict(stage.named_parameters()), *dict(stage.named_buffers())}
    given = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if not any(given[name].is_meta for name in own):
        for name in own:
            path, _, attribute = name.rpartition(".")
            setattr(stage.get_submodule(path), attribute, given[name])
        stage.to(device)
    elif lost := own - model.state_dict().keys():
        raise ArgumentError(
            f"model is on meta and has buffers that no checkpoint has: {', '.join(sorted(lost))}. "
            "Build it on a device with memory"
        )
    else:
        stage.to_empty(device=device)
