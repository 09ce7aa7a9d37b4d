"""NMS in Triton. All of it runs on the GPU; only ``nms``, ``batched_nms`` and ``soft_nms``, whose
answers have as many entries as there are boxes kept, read one number at the very end.

Composed of ``torch.sort`` and the kernels of ``kernels/triton/nms.py``. Scores are sorted as
integer keys, since on a GPU torch's order of -0 and of NaN depends on how many there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.gpu.configs import Config, bucket
from cvperf.backends.gpu.machine import machine
from cvperf.backends.gpu.nms import Screens, check_size, rounded_down
from cvperf.backends.triton.configs import config_for
from cvperf.backends.triton.launch import launch
from cvperf.backends.triton.nms_model import CHUNK, PAIRS, SOLVE, kind_of, predicted
from cvperf.kernels.triton import nms as kernels
from cvperf.kernels.triton import soft_nms as soft_kernels

SORTED = Config.of(4, 1, BLOCK=256)
SOFT = Config.of(8, 1, BLOCK=1024)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    count = scores.numel()
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    indices, counts = _first(boxes[None], scores[None], iou_threshold, count, padded_to=0)
    return indices[0, : int(counts)].clone()  # ten kept boxes do not hold memory of ten thousand


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    if scores.numel() == 0:
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    order, stays = classwise(boxes, scores, idxs, iou_threshold)
    return order.masked_select(stays)


def nms_padded(
    boxes: Tensor, scores: Tensor, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    images, count = scores.shape
    if images == 0 or count == 0 or max_output == 0:
        indices = torch.full((images, max_output), -1, dtype=torch.int64, device=boxes.device)
        return indices, torch.zeros(images, dtype=torch.int64, device=boxes.device)
    return _first(boxes, scores, iou_threshold, min(count, max_output), padded_to=max_output)


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    method: str,
    iou_threshold: float,
    sigma: float,
    score_threshold: float,
    max_output: int | None,
) -> tuple[Tensor, Tensor]:
    indices, selected, selections = selected_softly(
        boxes, scores, method, iou_threshold, sigma, score_threshold, max_output
    )
    count = int(selections)
    return indices[:count].clone(), selected[:count].clone()


def selected_softly(
    boxes: Tensor,
    scores: Tensor,
    method: str,
    iou_threshold: float,
    sigma: float,
    score_threshold: float,
    max_output: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As soft_nms, in memory for every box, and int64 [1], how many are selected."""
    boxes, scores, count = boxes.contiguous(), scores.contiguous(), scores.numel()
    limit = count if max_output is None else min(max_output, count)
    device, gaussian = boxes.device, method == "gaussian"
    indices = torch.empty(limit, dtype=torch.int64, device=device)
    selected = torch.empty(limit, dtype=scores.dtype, device=device)
    selections = torch.zeros(1, dtype=torch.int64, device=device)
    launch(
        soft_kernels.soft_nms_kernel,
        (min(limit, 1),),
        boxes,
        scores,
        torch.empty(count, dtype=torch.float32, device=device),
        indices,
        selected,
        selections,
        count,
        limit,
        0.0 if gaussian else rounded_down(iou_threshold),
        float(sigma),
        -rounded_down(-score_threshold),
        GAUSSIAN=gaussian,
        config=SOFT,
        enable_fp_fusion=False,
    )
    return indices, selected, selections


def classwise(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """int64 [N] boxes by descending score, and bool [N] whether each stays in its class."""
    order = _by_score(scores[None])[0]
    classes, by_class = idxs.to(torch.int64)[order].sort(dim=0, stable=True)
    first = torch.searchsorted(classes, classes, out_int32=True)
    count = scores.numel()
    stays = torch.empty(count, dtype=torch.bool, device=boxes.device)
    greedy = _Greedy(boxes[None], order[by_class][None], first, count)
    greedy.run(iou_threshold, stays=stays)
    return order, stays[order]


def _first(
    boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int, *, padded_to: int
) -> tuple[Tensor, Tensor]:
    """The first ``limit`` boxes that each image keeps, then -1 up to ``padded_to``."""
    shape = (scores.shape[0], max(limit, padded_to))
    indices = torch.empty(shape, dtype=torch.int64, device=boxes.device)
    greedy = _Greedy(boxes, _by_score(scores), None, limit)
    return indices, greedy.run(iou_threshold, indices=indices, padded_to=padded_to)


def _by_score(scores: Tensor) -> Tensor:
    """int64 [B, N]: the boxes of each image by descending score, NaN first, ties by index."""
    scores = scores.contiguous()
    keys = torch.empty(scores.shape, dtype=torch.int32, device=scores.device)
    programs = -(-keys.numel() // SORTED["BLOCK"])
    launch(kernels.nms_keys, (programs,), scores, keys, keys.numel(), config=SORTED)
    return keys.sort(dim=1, descending=True, stable=True)[1]


class _Greedy:
    """Boxes [B, N, 4] in a given order, and the memory to settle them; nothing is waited for."""

    def __init__(self, boxes: Tensor, order: Tensor, first: Tensor | None, limit: int) -> None:
        images, count = order.shape
        check_size("Triton", images, count)
        self.boxes, self.order, self.first, self.limit = boxes.contiguous(), order, first, limit
        self.images, self.count = images, count
        block = SOLVE["BLOCK"]
        self.pitch = -(-count // block) * block
        self.chunk = min(CHUNK, self.pitch)
        self.chunks = -(-count // self.chunk)
        device, words = boxes.device, self.chunk // 32
        self.planes = torch.empty(images, kernels.PLANES.value, self.pitch, device=device)
        self.removed = torch.empty(images, self.pitch, dtype=torch.int8, device=device)
        integer = torch.int32
        self.words = torch.empty(images, words, self.pitch, dtype=integer, device=device)
        self.settled = torch.empty(images, words, dtype=integer, device=device)
        self.kept = torch.empty(images, limit, dtype=integer, device=device)
        self.ends = torch.empty(images, self.chunks + 1, dtype=integer, device=device)
        self.counts = torch.empty(images, dtype=torch.int64, device=device)

    def run(
        self,
        iou_threshold: float,
        *,
        indices: Tensor | None = None,
        padded_to: int = 0,
        stays: Tensor | None = None,
    ) -> Tensor:
        """Fills ``indices`` or ``stays``, whichever is given. Returns int64 [B], how many stay."""
        screens = Screens.of(iou_threshold)
        self._sort(screens)
        config = self._overlaps(screens.threshold)
        for number in range(self.chunks):
            self._solve(number, indices, padded_to, stays)
            self._suppress(number, screens.threshold, config)
        return self.counts

    def _sort(self, screens: Screens) -> None:
        launch(
            kernels.nms_boxes,
            (self.pitch // SORTED["BLOCK"], self.images),
            self.boxes,
            self.order,
            self.planes,
            self.removed,
            self.ends,
            self.count,
            self.pitch,
            self.chunks,
            screens.below,
            screens.above,
            config=SORTED,
            enable_fp_fusion=False,
        )

    def _overlaps(self, threshold: float) -> Config:
        """Returns the configuration it ran with, which fits ``_suppress`` as well."""

        def run(config: Config) -> None:
            columns, groups = self.pitch // config["COLUMNS"], self.chunk // 32 // config["WORDS"]
            launch(
                kernels.nms_overlaps,
                (columns, groups, self.images),
                self.planes,
                self.words,
                self.first,
                self.count,
                self.pitch,
                self.chunk,
                threshold,
                CLASSES=self.first is not None,
                config=config,
                enable_fp_fusion=False,
            )

        gpu = machine(self.boxes.device)
        config = config_for(
            PAIRS,
            kind_of(self.images, self.pitch),
            bucket(self.images, self.pitch),
            gpu,
            lambda config: predicted(gpu, config, self.images, self.pitch, self.chunk),
            run,
        )
        run(config)
        return config

    def _solve(
        self, number: int, indices: Tensor | None, padded_to: int, stays: Tensor | None
    ) -> None:
        launch(
            kernels.nms_solve,
            (self.images,),
            self.words,
            self.removed,
            self.order,
            self.settled,
            self.kept,
            self.ends,
            indices,
            self.counts,
            stays,
            self.count,
            self.pitch,
            self.chunk,
            number,
            self.chunks,
            self.limit,
            padded_to,
            FLAGS=stays is not None,
            config=SOLVE,
        )

    def _suppress(self, number: int, threshold: float, config: Config) -> None:
        """Nothing after the last chunk."""
        later = self.count - (number + 1) * self.chunk
        most = min(self.chunk, self.limit)
        columns, kept = config["COLUMNS"], 32 * config["WORDS"]
        launch(
            kernels.nms_suppress,
            (max(-(-later // columns), 0), -(-most // kept), self.images),
            self.planes,
            self.removed,
            self.kept,
            self.ends,
            self.first,
            self.count,
            self.pitch,
            self.chunk,
            number,
            self.chunks,
            self.limit,
            threshold,
            CLASSES=self.first is not None,
            config=config,
            enable_fp_fusion=False,
        )
