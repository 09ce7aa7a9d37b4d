"""Plain torch in float64: slow, short, and what every kernel is held to.

Never picked by itself; tests call it, and ``registry.prefer("reference")`` runs a model on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import grad as gradients

from cvperf.backends.pyramid import pyramid_levels
from cvperf.backends.registry import FLOATING, convolution_format, register

# --- nms ------------------------------------------------------------------------------------------


@register("nms", "reference", "cpu", FLOATING, automatic=False)
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy NMS, one box at a time, each compared with all boxes of lower score."""
    order = scores.sort(stable=True, descending=True).indices
    boxes = boxes[order].double()
    alive = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if not alive[i]:
            continue
        overlaps = _overlaps(boxes, i) > iou_threshold
        overlaps[: i + 1] = False
        alive &= ~overlaps
    return order[alive]


def _overlaps(boxes: Tensor, i: int) -> Tensor:
    """IoU of box i with every box: NaN for 0 / 0, inf / inf and NaN coordinates."""
    x1, y1, x2, y2 = boxes.unbind(1)
    areas = (x2 - x1) * (y2 - y1)
    width = (torch.minimum(x2, x2[i]) - torch.maximum(x1, x1[i])).clamp(min=0)
    height = (torch.minimum(y2, y2[i]) - torch.maximum(y1, y1[i])).clamp(min=0)
    intersection = width * height
    return intersection / (areas[i] + areas - intersection)


@register("batched_nms", "reference", "cpu", FLOATING, automatic=False)
def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """NMS of each class by itself, merged by descending score."""
    kept = torch.zeros(len(scores), dtype=torch.bool)
    for label in idxs.unique():
        members = torch.nonzero(idxs == label).flatten()
        kept[members[nms(boxes[members], scores[members], iou_threshold)]] = True
    order = scores.sort(stable=True, descending=True).indices
    return order[kept[order]]


@register("nms_padded", "reference", "cpu", FLOATING, automatic=False)
def nms_padded(
    boxes: Tensor, scores: Tensor, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    """The first ``max_output`` that NMS of each image keeps, then -1."""
    indices = torch.full((len(boxes), max_output), -1)
    counts = torch.zeros(len(boxes), dtype=torch.int64)
    for i in range(len(boxes)):
        kept = nms(boxes[i], scores[i], iou_threshold)[:max_output]
        indices[i, : len(kept)] = kept
        counts[i] = len(kept)
    return indices, counts


@register("soft_nms", "reference", "cpu", FLOATING, automatic=False)
def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    method: str,
    iou_threshold: float,
    sigma: float,
    score_threshold: float,
    max_output: int | None,
) -> tuple[Tensor, Tensor]:
    """The eager algorithm: select the best, scale all others, and again."""
    wide, current = boxes.double(), scores.double()
    waiting = current >= score_threshold
    limit = len(scores) if max_output is None else max_output
    indices: list[int] = []
    selected: list[float] = []
    while len(indices) < limit and bool(waiting.any()):
        best = int(torch.where(waiting, current, -1).argmax())  # the first of equals
        indices.append(best)
        selected.append(float(current[best]))
        overlaps = _overlaps(wide, best).nan_to_num(0.0)
        if method == "linear":
            factors = torch.where(overlaps > iou_threshold, 1 - overlaps, 1.0)
        else:
            factors = torch.exp(-(overlaps**2) / sigma)
        current = current * factors
        waiting[best] = False
        waiting &= current >= score_threshold
    return torch.tensor(indices, dtype=torch.int64), torch.tensor(selected, dtype=scores.dtype)


# --- roi_align ------------------------------------------------------------------------------------


@register("roi_align", "reference", "cpu", FLOATING, automatic=False)
def roi_align(
    image: Tensor,
    boxes: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Each box as (rows of weights) @ map @ (columns of weights), since sampling is separable."""
    settings = (spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned)
    bins = [
        rows @ image[index].double() @ columns.T
        for index, rows, columns in _roi_weights(boxes, image, image.shape[2:], *settings)
    ]
    empty = image.new_empty((0, image.shape[1], pooled_height, pooled_width))
    return (torch.stack(bins) if bins else empty).to(image.dtype)


@register("roi_align_backward", "reference", "cpu", FLOATING, automatic=False)
def roi_align_backward(
    grad: Tensor,
    boxes: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The transpose of the forward's two matrix products."""
    settings = (spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned)
    image_grad = torch.zeros((batch_size, channels, height, width), dtype=torch.float64)
    weights = _roi_weights(boxes, grad, (height, width), *settings)
    for box_grad, (index, rows, columns) in zip(grad.double(), weights, strict=True):
        image_grad[index] += rows.T @ box_grad @ columns
    return image_grad.to(grad.dtype)


@register("multiscale_roi_align", "reference", "cpu", FLOATING, automatic=False)
def multiscale_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    scales: Sequence[float],
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
    canonical_scale: float,
    canonical_level: int,
) -> Tensor:
    """Each level's boxes by themselves."""
    shape = (len(boxes), features[0].shape[1], pooled_height, pooled_width)
    output = features[0].new_zeros(shape)
    levels = _levels(boxes, scales, canonical_scale, canonical_level)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        here = levels == level
        bins = (pooled_height, pooled_width)
        output[here] = roi_align(feature, boxes[here], scale, *bins, sampling_ratio, aligned)
    return output


@register("multiscale_roi_align_backward", "reference", "cpu", FLOATING, automatic=False)
def multiscale_roi_align_backward(
    grad: Tensor,
    boxes: Tensor,
    scales: Sequence[float],
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    heights: Sequence[int],
    widths: Sequence[int],
    sampling_ratio: int,
    aligned: bool,
    canonical_scale: float,
    canonical_level: int,
) -> list[Tensor]:
    levels = _levels(boxes, scales, canonical_scale, canonical_level)
    grads = []
    for level, (scale, height, width) in enumerate(zip(scales, heights, widths, strict=True)):
        here = levels == level
        bins, size = (pooled_height, pooled_width), (batch_size, channels)
        grads.append(
            roi_align_backward(
                *(grad[here], boxes[here], scale, *bins, *size, height, width),
                sampling_ratio,
                aligned,
            )
        )
    return grads


def _levels(
    boxes: Tensor, scales: Sequence[float], canonical_scale: float, canonical_level: int
) -> Tensor:
    if len(scales) == 1:
        return torch.zeros(len(boxes))
    return pyramid_levels(boxes, scales, canonical_scale, canonical_level)


def _roi_weights(
    boxes: Tensor,
    like: Tensor,
    size: Sequence[int],
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each box's image index, row weights [pooled_height, H], column weights [pooled_width, W]."""
    # The number of samples is counted in the type that boxes are given in, as torchvision does.
    boxes = boxes.to(torch.float64 if like.dtype == torch.float64 else torch.float32)
    for index, x1, y1, x2, y2 in boxes:
        rows, columns = (
            _axis_weights(first, last, bins, pixels, spatial_scale, sampling_ratio, aligned)
            for first, last, bins, pixels in (
                (y1, y2, pooled_height, size[0]),
                (x1, x2, pooled_width, size[1]),
            )
        )
        yield int(index), rows, columns


def _axis_weights(
    first: Tensor,
    last: Tensor,
    bins: int,
    pixels: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """[bins, pixels]: how much of each pixel is in each bin, along one axis of one box."""
    offset = 0.5 if aligned else 0.0

    def extent(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        start = a * spatial_scale - offset
        length = b * spatial_scale - offset - start
        return start, length if aligned else length.clamp(min=1)

    samples = sampling_ratio
    if sampling_ratio <= 0:
        count = torch.ceil(extent(first, last)[1] / bins)
        samples = int(count) if count.isfinite() else 0
    weights = torch.zeros(bins, pixels, dtype=torch.float64)
    if samples <= 0 or pixels == 0:
        return weights
    start, length = extent(first.double(), last.double())
    bin_index = torch.arange(bins, dtype=torch.float64)[:, None]
    step = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples
    position = start + (bin_index + step) * (length / bins)
    inside = (position >= -1) & (position <= pixels)  # false for NaN
    position = torch.where(inside, position, 0.0).clamp(0, pixels - 1)
    low = position.floor()
    fraction = position - low
    high = (low + 1).clamp(max=pixels - 1)
    share = inside.double() / samples
    weights.scatter_add_(1, low.long(), (1 - fraction) * share)
    return weights.scatter_add_(1, high.long(), fraction * share)


# --- roi_pool -------------------------------------------------------------------------------------


@register("roi_pool", "reference", "cpu", FLOATING, automatic=False)
def roi_pool(
    image: Tensor, boxes: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[Tensor, Tensor]:
    """Bin by bin; boxes are rounded in the type that they are given in, as torchvision does."""
    count, channels, (height, width) = len(boxes), image.shape[1], image.shape[2:]
    boxes = boxes.to(torch.float64 if image.dtype == torch.float64 else torch.float32)
    output = torch.zeros(count, channels, pooled_height, pooled_width, dtype=torch.float64)
    argmax = torch.full(output.shape, -1, dtype=torch.int32)
    for k, (index, x1, y1, x2, y2) in enumerate(boxes):
        if any(bool(corner.isnan()) for corner in (x1, y1, x2, y2)):
            continue
        rows = _pixel_ranges(y1 * spatial_scale, y2 * spatial_scale, pooled_height, height)
        columns = _pixel_ranges(x1 * spatial_scale, x2 * spatial_scale, pooled_width, width)
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                patch = image[int(index), :, top:bottom, left:right].double()
                if patch.numel() == 0:
                    continue
                lowest = torch.finfo(torch.float32).min
                patch = torch.where(patch > lowest, patch, lowest).flatten(1)
                best, where = patch.max(1)
                where = (patch == best[:, None]).double().argmax(1)  # the first
                pixel = (top + where // (right - left)) * width + left + where % (right - left)
                output[k, :, i, j] = best
                argmax[k, :, i, j] = torch.where(best > lowest, pixel, -1).to(torch.int32)
    return output.to(image.dtype), argmax


def _pixel_ranges(first: Tensor, last: Tensor, bins: int, pixels: int) -> list[tuple[int, int]]:
    def whole(x: Tensor) -> int:  # halves away from zero, within int32
        return int(x.sign() * (x.double().abs().clamp(max=2**31 - 1) + 0.5).floor())

    start, end = whole(first), whole(last)
    size = first.new_tensor(max(end - start + 1, 1)) / bins
    edges = [size * float(i) for i in range(bins + 1)]
    return [
        (
            min(max(int(edges[i].floor()) + start, 0), pixels),
            min(max(int(edges[i + 1].ceil()) + start, 0), pixels),
        )
        for i in range(bins)
    ]


@register("roi_pool_backward", "reference", "cpu", FLOATING, automatic=False)
def roi_pool_backward(
    grad: Tensor,
    boxes: Tensor,
    argmax: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
) -> Tensor:
    """Each bin's gradient goes to the pixel that was its maximum."""
    image_grad = torch.zeros((batch_size, channels, height * width), dtype=torch.float64)
    rows = zip(boxes, grad.double().flatten(2), argmax.flatten(2), strict=True)
    for box, box_grad, where in rows:
        valid = where >= 0
        image_grad[int(box[0])].scatter_add_(1, where.long().clamp(min=0), box_grad * valid)
    return image_grad.view(batch_size, channels, height, width).to(grad.dtype)


# --- activations (conv2d, int8_gemm) --------------------------------------------------------------


def activate(activation: str | None, value: Tensor) -> Tensor:
    """The fused activation by name; None passes the value on."""
    return value if activation is None else _ACTIVATIONS[activation](value)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.nn.functional.relu,
    "relu6": torch.nn.functional.relu6,
    "silu": torch.nn.functional.silu,
    "hardswish": torch.nn.functional.hardswish,
    "sigmoid": torch.sigmoid,
    "leaky_relu": torch.nn.functional.leaky_relu,
}

# --- int8_gemm ------------------------------------------------------------------------------------


@register("pack_int8", "reference", "cpu", (torch.int8,), automatic=False)
def pack_int8(b: Tensor) -> Tensor:
    """Panels of 16 columns, [ceil(N/16)][ceil(K/4)][16][4] int8, then the column sums as int32."""
    k, n = b.shape
    padded = torch.nn.functional.pad(b, (0, -n % 16, 0, -k % 4))
    quads, panels = padded.shape[0] // 4, padded.shape[1] // 16
    data = padded.reshape(quads, 4, panels, 16).permute(2, 0, 3, 1).contiguous()
    sums = padded.sum(0, dtype=torch.int32)
    return torch.cat([data.flatten().view(torch.uint8), sums.view(torch.uint8)])


def _unpacked_int8(packed: Tensor, k: int, n: int) -> Tensor:
    """The matrix [K, N] again, in float64."""
    quads, panels = (k + 3) // 4, (n + 15) // 16
    data = packed[: panels * quads * 64].view(torch.int8).reshape(panels, quads, 16, 4)
    return data.permute(1, 3, 0, 2).reshape(quads * 4, panels * 16)[:k, :n].double()


@register("int8_gemm", "reference", "cpu", (torch.int8, torch.uint8), automatic=False)
def int8_gemm(
    a: Tensor,
    b_packed: Tensor,
    n: int,
    scale_a: Tensor | None,
    scale_b: Tensor | None,
    zero_a: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
    out_dtype: torch.dtype,
) -> Tensor:
    """The formula in float64, where sums of 8-bit products are exact."""
    b = _unpacked_int8(b_packed, a.shape[1], n)
    zero = 0 if zero_a is None else zero_a.double().reshape(-1, 1)
    value = (a.double() - zero) @ b
    if scale_a is not None:
        value = value * scale_a.double().reshape(-1, 1)
    if scale_b is not None:
        value = value * scale_b.double()
    if bias is not None:
        value = value + bias.double()
    value = activate(activation, value)
    if out_dtype == torch.int8:
        value = value.nan_to_num(nan=-128.0).round().clamp(-128, 127)
    return value.to(out_dtype)


# --- conv2d_int8 ----------------------------------------------------------------------------------


@register("pack_conv2d_int8", "reference", "cpu", (torch.int8,), automatic=False)
def pack_conv2d_int8(weight: Tensor, groups: int) -> Tensor:
    """A matrix [kh * kw * C/groups, O/groups] a group; depthwise [kw * whole quads of kh, O]."""
    filters, channels, height = weight.shape[:3]
    if groups > 1 and channels == 1 and filters == groups:
        rows = torch.nn.functional.pad(weight, (0, 0, 0, -height % 4))
        return pack_int8(rows[:, 0].permute(2, 1, 0).flatten(0, 1))
    matrices = weight.permute(2, 3, 1, 0).flatten(0, 2)
    return torch.cat([pack_int8(matrix) for matrix in matrices.chunk(groups, 1)])


def _unpacked_conv2d_int8(packed: Tensor, weight_size: Sequence[int], groups: int) -> Tensor:
    """The weight [O, C/groups, kh, kw] again, in float64."""
    filters, channels, height, width = weight_size
    if groups > 1 and channels == 1 and filters == groups:
        rows = (height + 3) // 4 * 4
        matrix = _unpacked_int8(packed, width * rows, filters)
        return matrix.reshape(width, rows, 1, filters).permute(3, 2, 1, 0)[:, :, :height]
    k, n = height * width * channels, filters // groups
    matrix = torch.cat([_unpacked_int8(part, k, n) for part in packed.chunk(groups)], 1)
    return matrix.reshape(height, width, channels, filters).permute(3, 2, 0, 1)


@register("conv2d_int8", "reference", "cpu", (torch.int8, torch.uint8), automatic=False)
def conv2d_int8(
    image: Tensor,
    packed: Tensor,
    weight_size: Sequence[int],
    groups: int,
    scale_input: float,
    scale_weight: Tensor | None,
    zero_point_input: int,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str | None,
    residual: Tensor | None,
    scale_residual: float,
    zero_point_residual: int,
    scale_output: float,
    zero_point_output: int,
    out_dtype: torch.dtype,
) -> Tensor:
    """The formula in float64, where sums of 8-bit products are exact."""
    value = torch.nn.functional.conv2d(
        image.double() - zero_point_input,
        _unpacked_conv2d_int8(packed, weight_size, groups),
        None,
        tuple(stride),
        tuple(padding),
        tuple(dilation),
        groups,
    )
    scale = 1.0 if scale_weight is None else scale_weight.double().reshape(-1, 1, 1)
    value = value * scale_input * scale
    if bias is not None:
        value = value + bias.double().reshape(-1, 1, 1)
    if residual is not None:
        value = value + (residual.double() - zero_point_residual) * scale_residual
    value = activate(activation, value)
    if out_dtype in (torch.int8, torch.uint8):
        limits = torch.iinfo(out_dtype)
        value = (value / scale_output).round() + zero_point_output
        value = value.nan_to_num(nan=limits.min).clamp(limits.min, limits.max)
    return value.to(out_dtype).contiguous(memory_format=torch.channels_last)


# --- conv2d ---------------------------------------------------------------------------------------


@register("conv2d", "reference", "cpu", FLOATING, automatic=False)
def conv2d(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: str | None,
    residual: Tensor | None,
    packed: Tensor | None = None,
    algorithm: str = "automatic",
) -> Tensor:
    """torch's convolution and activation in float64, rounded once; neither packs nor chooses."""
    wide_bias = None if bias is None else bias.double()
    output = torch.nn.functional.conv2d(
        image.double(),
        weight.double(),
        wide_bias,
        tuple(stride),
        tuple(padding),
        tuple(dilation),
        groups,
    )
    if residual is not None:
        output = output + residual.double()
    output = activate(activation, output)
    return output.to(image.dtype).contiguous(memory_format=convolution_format(image, weight))


@register("conv2d_input_grad", "reference", "cpu", FLOATING, automatic=False)
def conv2d_input_grad(
    grad: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """torch's gradient in float64, rounded once."""
    image_grad = gradients.conv2d_input(
        tuple(input_size), weight.double(), grad.double(), stride, padding, dilation, groups
    ).to(grad.dtype)
    return image_grad.contiguous(memory_format=convolution_format(grad, weight))


@register("conv2d_weight_grad", "reference", "cpu", FLOATING, automatic=False)
def conv2d_weight_grad(
    grad: Tensor,
    image: Tensor,
    weight_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """torch's gradient in float64, rounded once."""
    weight_grad = gradients.conv2d_weight(
        image.double(), tuple(weight_size), grad.double(), stride, padding, dilation, groups
    ).to(grad.dtype)
    return weight_grad.contiguous(memory_format=convolution_format(image, grad))
