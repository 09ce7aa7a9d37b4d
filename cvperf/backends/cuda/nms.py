"""NMS in CUDA C++. All of it runs on the GPU; only ``nms``, ``batched_nms`` and ``soft_nms``, whose
answers have as many entries as there are boxes kept, read one number at the very end.

The kernels' files, ``kernels/cuda/nms*.cu`` and ``soft_nms.cu``, have the ideas.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.cuda.nms_model import BLOCKS, Blocks
from cvperf.backends.gpu.machine import machine
from cvperf.backends.gpu.nms import Screens, check_size, rounded_down

SOFT_THREADS = 1024
_TYPES = {torch.float32: "float", torch.float16: "__half", torch.bfloat16: "__nv_bfloat16"}


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return _kept(boxes, scores, None, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return _kept(boxes, scores, idxs.to(torch.int64).contiguous(), iou_threshold)


def nms_padded(
    boxes: Tensor, scores: Tensor, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    images, count = scores.shape
    if images == 0 or count == 0 or max_output == 0:
        indices = torch.full((images, max_output), -1, dtype=torch.int64, device=boxes.device)
        return indices, torch.zeros(images, dtype=torch.int64, device=boxes.device)
    limit = min(count, max_output)
    return first(boxes, scores, None, iou_threshold, limit, padded_to=max_output)


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
    of = f"{_TYPES[boxes.dtype]}, {'true' if gaussian else 'false'}, {SOFT_THREADS}"
    launch(
        Kernel("soft_nms.cu", f"soft_nms<{of}>", fused=False),
        (min(limit, 1),),
        SOFT_THREADS,
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
    )
    return indices, selected, selections


def _kept(boxes: Tensor, scores: Tensor, labels: Tensor | None, iou_threshold: float) -> Tensor:
    count = scores.numel()
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    indices, counts = first(boxes[None], scores[None], labels, iou_threshold, count)
    return indices[0, : int(counts)].clone()  # ten kept boxes do not hold memory of ten thousand


def first(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    iou_threshold: float,
    limit: int,
    padded_to: int = 0,
) -> tuple[Tensor, Tensor]:
    """The first boxes that each image keeps; nothing is waited for.

    Args:
        boxes: [B, N, 4], N and B above 0.
        scores: [B, N].
        labels: int64 [N], the classes, if B is 1; None: there is one.
        iou_threshold: as of nms.
        limit: how many are wanted of an image, 1 to N.
        padded_to: entries of an answer that are written at least, those behind the boxes with -1.

    Returns:
        int64 [B, max(limit, padded_to)] indices, and int64 [B], how many they are.
    """
    images, count = scores.shape
    check_size("CUDA C++", images, count)
    boxes, scores, screens = boxes.contiguous(), scores.contiguous(), Screens.of(iou_threshold)
    greedy = _Greedy.of(BLOCKS, images, count, limit, padded_to, boxes.device)
    # Pruning needs the order by place, and there must be something to prune.
    by_place = greedy.order(boxes, scores, labels, screens, greedy.chunks > 1 and screens.prunes)
    greedy.settle(labels is not None, screens, by_place)
    return greedy.indices, greedy.counts


@dataclass(frozen=True)
class _Greedy:
    """The sizes of a call, its memory and its answer."""

    blocks: Blocks
    images: int
    count: int
    limit: int
    padded_to: int
    pitch: int
    chunk: int
    chunks: int
    memory: Tensor
    words: Tensor
    indices: Tensor
    counts: Tensor

    @classmethod
    def of(
        cls,
        blocks: Blocks,
        images: int,
        count: int,
        limit: int,
        padded_to: int,
        device: torch.device,
    ) -> _Greedy:
        pitch, chunk, chunks = blocks.pitch(count), blocks.chunk_of(count), blocks.chunks(count)
        stride = -(-(37 * pitch + 4 * (chunks + 2)) // 256) * 256  # gpu::Space of nms.cuh
        memory = torch.empty(images, stride, dtype=torch.uint8, device=device)
        words = torch.empty(images, chunk // 32, pitch, dtype=torch.int32, device=device)
        shape = (images, max(limit, padded_to))
        indices = torch.empty(shape, dtype=torch.int64, device=device)
        counts = torch.empty(images, dtype=torch.int64, device=device)
        sizes = (images, count, limit, padded_to, pitch, chunk, chunks)
        return cls(blocks, *sizes, memory, words, indices, counts)

    def order(
        self, boxes: Tensor, scores: Tensor, labels: Tensor | None, screens: Screens, places: bool
    ) -> Tensor | None:
        """Lays out the boxes by score. Returns int32 [B, N], their ranks by place, if asked for."""
        if self.count > self.blocks.counted:
            return self._sort(boxes.float(), scores.float(), labels, screens, places)
        by_place = torch.empty_like(scores, dtype=torch.int32) if places else None
        items, threads = self.blocks.items, self.blocks.counting
        launch(
            _kernel("nms_order.cu", "nms_ranks", _TYPES[boxes.dtype], items, threads),
            (-(-self.count // items), self.images),
            threads,
            *(boxes, scores, labels, self.memory, by_place),
            *(self.memory.shape[1], self.count, self.pitch),
            *(screens.threshold, screens.below),
        )
        return by_place

    def _sort(
        self, boxes: Tensor, scores: Tensor, labels: Tensor | None, screens: Screens, places: bool
    ) -> Tensor | None:
        threads = self.blocks.placing
        grid = (-(-self.count // threads), self.images)
        keys = torch.empty_like(scores, dtype=torch.int32)
        kernel = _kernel("nms_order.cu", "nms_score_keys", threads)
        launch(kernel, grid, threads, scores, keys, self.count)
        order = keys.sort(dim=1, descending=True, stable=True)[1]
        launch(
            _kernel("nms_order.cu", "nms_place", threads),
            grid,
            threads,
            *(boxes, labels, order, self.memory, keys if places else None),
            *(self.memory.shape[1], self.count, self.pitch),
            *(screens.threshold, screens.below),
        )
        if not places:
            return None
        return keys.sort(dim=1, descending=True, stable=True)[1].to(torch.int32)

    def settle(self, classes: bool, screens: Screens, by_place: Tensor | None) -> None:
        """Fills the answer."""
        threads, flag = self.blocks.threads, "true" if classes else "false"
        sizes = (
            *(self.memory.shape[1], self.count, self.pitch, self.chunk, self.chunks),
            *(self.limit, self.padded_to),
        )
        answer, share = (self.indices, self.counts), (screens.threshold, screens.below)
        gpu = machine(self.memory.device)
        launch(
            _kernel("nms.cu", "nms_overlaps", threads, flag),
            (self.blocks.overlapping(gpu, self.images, self.count), self.images),
            threads,
            *(self.memory, self.words, *answer, *sizes, *share),
        )
        for number in range(self.chunks - 1):
            launch(
                _kernel("nms.cu", "nms_suppress", threads, flag),
                (*self.blocks.suppressing(gpu, self.images, self.count), self.images),
                threads,
                *(self.memory, self.words, by_place, *answer, *sizes, number, *share),
            )


def _kernel(file: str, name: str, *parameters: str | int) -> Kernel:
    return Kernel(file, f"{name}<{', '.join(map(str, parameters))}>", fused=False)
