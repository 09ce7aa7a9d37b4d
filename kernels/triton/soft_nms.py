"""Soft-NMS in one program: select the highest score, scale all others, and again.

Idea: each step needs the whole of the step before, so the device's width is no help and what counts
is a step's latency. All boxes stay near one multiprocessor: a step reads the winner's corners,
passes once over the boxes (20 bytes each, from L1 up to some 10,000 of them), and takes the next
highest score in the same pass. Scores below the threshold become -1, so they are never selected.
The products are those of the eager algorithm in its order; linear ones are the CPU kernel's, bit
for bit, if it is launched without fused multiply-adds.

Prediction for an H100 (not yet run on hardware): 1 us a step at up to 1,000 boxes (0.6 for a load
and the barriers of the reduction, the rest for 300 instructions for four boxes a thread), so some 1
ms for 1,000 boxes: more than the CPU's time. It is here so that scores on the GPU need not leave
it.

Source: Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load_corners(corner, mask):
    x1 = tl.load(corner, mask=mask, other=0.0).to(tl.float32)
    y1 = tl.load(corner + 1, mask=mask, other=0.0).to(tl.float32)
    x2 = tl.load(corner + 2, mask=mask, other=0.0).to(tl.float32)
    y2 = tl.load(corner + 3, mask=mask, other=0.0).to(tl.float32)
    return x1, y1, x2, y2


@triton.jit(do_not_specialize=["count", "limit"])
def soft_nms_kernel(
    boxes, scores, current, indices, selected, selections,
    count, limit, threshold, sigma, least,
    GAUSSIAN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """indices[limit], selected[limit]: boxes and scores as they are selected; selections[1]: how
    many. current[count]: scratch, float32. ``least``: a score below it is gone; 0 or more."""
    number = 0
    best = 0
    score = -1.0
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        value = tl.load(scores + i, mask=i < count, other=-1.0).to(tl.float32)
        value = tl.where(value >= least, value, -1.0)  # NaN as well
        tl.store(current + i, value, mask=i < count)
        highest, place = tl.max(value, 0, return_indices=True)
        best = tl.where(highest > score, start + place, best)
        score = tl.where(highest > score, highest, score)
    while (number < limit) & (score >= 0.0):
        tl.store(indices + number, best.to(tl.int64))
        tl.store(selected + number, score.to(selected.dtype.element_ty))
        number += 1
        chosen = best
        u1, v1, u2, v2 = _load_corners(boxes + chosen * 4, chosen < count)
        its_area = (u2 - u1) * (v2 - v1)
        score = -1.0
        tl.debug_barrier()  # the scores of the step before have been written
        for start in range(0, count, BLOCK):
            i = start + tl.arange(0, BLOCK)
            value = tl.load(current + i, mask=i < count, other=-1.0)
            x1, y1, x2, y2 = _load_corners(boxes + i * 4, i < count)
            width = tl.maximum(tl.minimum(x2, u2) - tl.maximum(x1, u1), 0.0)
            height = tl.maximum(tl.minimum(y2, v2) - tl.maximum(y1, v1), 0.0)
            inter = width * height
            overlap = tl.div_rn(inter, (x2 - x1) * (y2 - y1) + its_area - inter)
            if GAUSSIAN:
                factor = tl.exp(tl.div_rn(-(overlap * overlap), tl.zeros_like(overlap) + sigma))
            else:
                factor = 1.0 - overlap
            meets = (overlap > threshold) & (overlap > 0.0)  # not where it is NaN
            value = tl.where(meets, value * factor, value)
            value = tl.where((value >= least) & (i != chosen), value, -1.0)
            tl.store(current + i, value, mask=i < count)
            highest, place = tl.max(value, 0, return_indices=True)
            best = tl.where(highest > score, start + place, best)
            score = tl.where(highest > score, highest, score)
    tl.store(selections, number)
