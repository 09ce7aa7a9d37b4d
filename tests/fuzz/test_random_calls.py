"""Every op on random shapes and values: the reference's answer, or an error before native code.

`make asan` runs this file once more on a module built with AddressSanitizer, where the AVX-512
sources run emulated; an access outside a tensor ends that run.
"""

from __future__ import annotations

import os

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cvperf
from cvperf import _C, ops
from cvperf.backends import reference
from cvperf.backends.registry import prefer
from cvperf.ops._activation import ACTIVATIONS

EXAMPLES = int(os.environ.get("CVPERF_FUZZ_EXAMPLES", "150"))
random_calls = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)

FLOATING = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
WILD = [0.0, -0.0, 1e-30, -1.0, 3.5, 1e6, -1e6, 1e30, float("inf"), -float("inf"), float("nan")]
TOLERANCE = {torch.float16: 4e-3, torch.bfloat16: 3e-2, torch.float32: 1e-5, torch.float64: 1e-12}

isas = st.sampled_from(_C.available_isas())
dtypes = st.sampled_from(FLOATING)
short = st.sampled_from([torch.float16, torch.bfloat16, torch.float32])
seeds = st.integers(0, 2**31)
layouts = st.sampled_from(["contiguous", "channels_last", "strided", "expanded"])


@pytest.fixture(autouse=True)
def restored_isa():
    before = _C.isa()
    yield
    _C.select_isa(before)


def laid_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values in another layout, with unused elements in between or shared ones."""
    if layout == "channels_last" and tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "strided" and tensor.dim():
        doubled = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), 77)
        view = doubled[..., : 2 * tensor.shape[-1] : 2]
        return view.copy_(tensor)
    if layout == "expanded" and tensor.dim() and tensor.shape[0]:
        return tensor[:1].expand_as(tensor)
    return tensor


def sprinkle_wild(values: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    flat = values.flatten().clone()
    for i in torch.randperm(len(flat), generator=generator)[: len(flat) // 6]:
        flat[i] = WILD[int(torch.randint(len(WILD), (), generator=generator))]
    return flat.reshape(values.shape)


def assert_close(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    assert found.shape == expected.shape
    if found.numel():
        error = (found.double() - expected.double()).abs().max() / expected.abs().max().clamp(min=1)
        assert error <= TOLERANCE[dtype], f"relative error {error:.2e} in {dtype}"


@random_calls
@given(isas, dtypes, seeds, st.integers(0, 90), st.sampled_from([-1.0, 0.0, 0.3, 0.5, 1.0, 2.0]),
       st.booleans(), layouts)  # fmt: skip
def test_nms(isa, dtype, seed, count, threshold, wild, layout) -> None:
    _C.select_isa(isa)
    torch.manual_seed(seed)
    boxes = torch.randn(count, 4) * 20
    scores = torch.randint(5, (count,)).float()
    if wild:
        boxes, scores = sprinkle_wild(boxes, seed), sprinkle_wild(scores, seed)
    boxes, scores = laid_out(boxes.to(dtype), layout), laid_out(scores.to(dtype), layout)
    labels = torch.randint(3, (count,))
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    expected = torchvision.ops.nms(boxes.to(compute), scores.to(compute), threshold)
    assert torch.equal(ops.nms(boxes, scores, threshold), expected)
    kept = torch.zeros(count, dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        alone = torchvision.ops.nms(
            boxes[members].to(compute), scores[members].to(compute), threshold
        )
        kept[members[alone]] = True
    order = scores.sort(descending=True, stable=True).indices
    assert torch.equal(ops.batched_nms(boxes, scores, labels, threshold), order[kept[order]])


@random_calls
@given(isas, dtypes, seeds, st.integers(0, 3), st.integers(0, 90), st.integers(0, 100),
       st.sampled_from([-1.0, 0.0, 0.3, 0.5, 1.0]), st.booleans(), layouts)  # fmt: skip
def test_nms_padded(isa, dtype, seed, images, count, most, threshold, wild, layout) -> None:
    _C.select_isa(isa)
    torch.manual_seed(seed)
    boxes, scores = torch.randn(images, count, 4) * 20, torch.randint(5, (images, count)).float()
    if wild:
        boxes, scores = sprinkle_wild(boxes, seed), sprinkle_wild(scores, seed)
    boxes, scores = laid_out(boxes.to(dtype), layout), laid_out(scores.to(dtype), layout)
    indices, counts = ops.nms_padded(boxes, scores, threshold, most)
    assert indices.shape == (images, most)
    for i in range(images):
        kept = ops.nms(boxes[i], scores[i], threshold)[:most]
        assert counts[i] == len(kept)
        assert torch.equal(indices[i, : len(kept)], kept)
        assert (indices[i, len(kept) :] == -1).all()


@random_calls
@given(isas, seeds, st.integers(0, 70), st.sampled_from(["linear", "gaussian"]),
       st.sampled_from([-1.0, 0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.001, 0.3]),
       st.sampled_from([None, 0, 5]), st.booleans(), layouts)  # fmt: skip
def test_soft_nms(isa, seed, count, method, iou, least, most, wild, layout) -> None:
    _C.select_isa(isa)
    torch.manual_seed(seed)
    boxes, scores = torch.randn(count, 4).double() * 20, torch.randint(1, 5, (count,)).double() / 4
    if wild:
        boxes, scores = sprinkle_wild(boxes, seed), sprinkle_wild(scores, seed)
    boxes, scores = laid_out(boxes, layout), laid_out(scores, layout)
    found, found_scores = ops.soft_nms(
        boxes, scores, method=method, iou_threshold=iou, score_threshold=least, max_output=most
    )
    expected, expected_scores = reference.soft_nms(boxes, scores, method, iou, 0.5, least, most)
    if method == "linear":  # the same operations, so the same bits
        assert torch.equal(found, expected)
        assert torch.equal(found_scores, expected_scores)
    else:  # scores that are a rounding apart may be selected either way
        torch.testing.assert_close(found_scores, expected_scores, rtol=1e-9, atol=0)
    half = torch.bfloat16 if seed % 2 else torch.float16
    few, few_scores = ops.soft_nms(boxes.to(half), scores.to(half), method=method)
    assert len(set(few.tolist())) == len(few) == len(few_scores)
    assert few_scores.dtype == half


@st.composite
def images(draw: st.DrawFn) -> torch.Tensor:
    sides = st.integers(1, 15)
    shape = draw(st.tuples(st.integers(0, 3), st.integers(0, 37), sides, sides))
    torch.manual_seed(draw(seeds))
    return laid_out(torch.randn(shape).to(draw(dtypes)), draw(layouts))


@random_calls
@given(isas, images(), st.integers(0, 6), st.integers(1, 8), st.integers(1, 8),
       st.sampled_from([-1, 0, 1, 2, 3]), st.booleans(), st.booleans(), seeds)  # fmt: skip
def test_roi_align_and_roi_pool(
    isa, image, count, height, width, ratio, aligned, wild, seed
) -> None:
    _C.select_isa(isa)
    torch.manual_seed(seed)
    boxes = torch.cat([torch.zeros(count, 1), torch.randn(count, 4) * 12], 1)
    if image.shape[0]:
        boxes[:, 0] = torch.randint(image.shape[0], (count,)).float()
    if wild:
        boxes[:, 1:] = sprinkle_wild(boxes[:, 1:], seed)
    elif aligned and ratio <= 0:  # torchvision fails on reversed boxes here
        corners = boxes[:, 1:].reshape(count, 2, 2).sort(1).values
        boxes[:, 1:] = corners.reshape(count, 4)
    boxes = boxes.to(image.dtype)
    if count and not image.shape[0]:
        with pytest.raises(cvperf.ArgumentError, match="boxes"):
            ops.roi_align(image, boxes, (height, width), 0.5, ratio, aligned)
        return
    source = image.clone().requires_grad_()
    found = ops.roi_align(source, boxes, (height, width), 0.5, ratio, aligned)
    found.sum().backward()
    pooled = ops.roi_pool(source, boxes, (height, width), 0.5)
    pooled.sum().backward()
    assert found.shape == pooled.shape == (count, image.shape[1], height, width)
    if not wild and image.dtype in (torch.float32, torch.float64):
        expected = torchvision.ops.roi_align(
            image.contiguous(), boxes, (height, width), 0.5, ratio, aligned
        )
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-4)
        expected = torchvision.ops.roi_pool(image.contiguous(), boxes, (height, width), 0.5)
        assert torch.equal(pooled, expected)


@random_calls
@given(isas, images(), st.integers(1, 5), st.lists(layouts, min_size=5, max_size=5),
       st.integers(0, 9), st.integers(1, 8), st.integers(1, 8), st.sampled_from([-1, 0, 1, 2, 3]),
       st.booleans(), st.booleans(), seeds)  # fmt: skip
def test_multiscale_roi_align(
    isa, image, levels, its_layouts, count, height, width, ratio, aligned, wild, seed
) -> None:
    _C.select_isa(isa)
    torch.manual_seed(seed)
    shapes = [
        (*image.shape[:2], -(-image.shape[2] // 2**level), -(-image.shape[3] // 2**level))
        for level in range(levels)
    ]
    features = [
        laid_out(torch.randn(shape).to(image.dtype), layout)
        for shape, layout in zip(shapes, its_layouts, strict=False)
    ]
    scales = [2.0**-level / 16 for level in range(levels)]
    count = count if image.shape[0] else 0
    corner = torch.randn(count, 2) * 60
    boxes = torch.cat([corner, corner + 400 * torch.rand(count, 2) ** 2 - 1], 1)
    boxes = sprinkle_wild(boxes, seed) if wild else boxes
    index = torch.randint(max(image.shape[0], 1), (count, 1)).float()
    boxes = torch.cat([index, boxes], 1).to(image.dtype)
    source = [each.clone().requires_grad_() for each in features]
    call = (boxes, (height, width), scales, ratio)
    found = ops.multiscale_roi_align(source, *call, aligned=aligned)
    found.sum().backward()
    assert found.shape == (count, image.shape[1], height, width)
    assert all(each.grad.shape == each.shape for each in source)
    if not wild:
        with prefer("reference"):
            expected = ops.multiscale_roi_align(features, *call, aligned=aligned)
        assert_close(found, expected, image.dtype)


@random_calls
@given(images(), st.integers(1, 5), st.sampled_from([-1.0, 3.0, 0.5, *WILD[-4:]]))
def test_a_batch_index_out_of_range_is_refused(image, count, index) -> None:
    boxes = torch.cat([torch.zeros(count, 1), torch.rand(count, 4)], 1)
    boxes[-1, 0] = index
    for op in (ops.roi_align, ops.roi_pool):
        with pytest.raises(cvperf.ArgumentError, match="batch index"):
            op(image, boxes.to(image.dtype), 2)


@random_calls
@given(isas, st.data())
def test_conv2d(isa, data) -> None:
    _C.select_isa(isa)
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 16]))
    per_group, outputs = draw(st.integers(1, 18)), draw(st.integers(1, 18))
    if groups > 3:
        per_group, outputs = 1, draw(st.integers(1, 2))
    dtype = draw(dtypes)
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    stride, dilation = draw(pairs), draw(pairs)
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    size = draw(st.tuples(st.integers(1, 19), st.integers(1, 19)))
    torch.manual_seed(draw(seeds))
    image = torch.randn(draw(st.integers(0, 2)), groups * per_group, *size).to(dtype)
    image = laid_out(image, draw(layouts))
    weight = (torch.randn(groups * outputs, per_group, *kernel) / 4).to(dtype)
    weight = laid_out(weight, draw(layouts))
    bias = draw(st.sampled_from([None, torch.randn(groups * outputs).to(dtype)]))
    activation = draw(st.sampled_from([None, *ACTIVATIONS]))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if any(s + 2 * p < r for s, p, r in zip(size, padding, reach, strict=True)):
        with pytest.raises(cvperf.ArgumentError, match=r"weight|kernel"):
            ops.conv2d(image, weight, bias, stride, padding, dilation, groups)
        return
    image = image.detach().clone().requires_grad_()
    weight = weight.detach().clone().requires_grad_()
    found = ops.conv2d(
        image, weight, bias, stride, padding, dilation, groups, activation=activation
    )
    expected = reference.conv2d(
        *(image.detach(), weight.detach(), bias, stride, padding, dilation, groups),
        *(activation, None),
    )
    assert_close(found, expected, dtype)
    grad = torch.randn_like(found)
    plain = ops.conv2d(image, weight, bias, stride, padding, dilation, groups)
    image_grad, weight_grad = torch.autograd.grad(plain, (image, weight), grad)
    image, weight, geometry = image.detach(), weight.detach(), (stride, padding, dilation, groups)
    expected = reference.conv2d_input_grad(grad, weight, image.shape, *geometry)
    assert_close(image_grad, expected, dtype)
    expected = reference.conv2d_weight_grad(grad, image, weight.shape, *geometry)
    assert_close(weight_grad, expected, dtype)


@random_calls
@given(isas, seeds, st.integers(0, 40), st.integers(0, 70), st.integers(0, 50), st.booleans(),
       st.booleans(), layouts, layouts)  # fmt: skip
def test_int8_gemm(isa, seed, m, k, n, unsigned, packed, a_layout, b_layout) -> None:
    _C.select_isa(isa)
    torch.manual_seed(seed)
    a = torch.randint(0, 256, (m, k)).to(torch.uint8)
    a = a if unsigned else a.view(torch.int8)
    b = torch.randint(-128, 128, (k, n)).to(torch.int8)
    a, b = laid_out(a, a_layout), laid_out(b, b_layout)
    expected = a.to(torch.int64) @ b.to(torch.int64)
    right = ops.pack_int8(b) if packed else b
    assert torch.equal(ops.int8_gemm(a, right), expected.to(torch.int32))
    scale, bias = torch.rand(n), torch.randn(n)
    finish = {"scale_a": 0.5, "scale_b": scale, "zero_a": 3, "bias": bias, "activation": "relu"}
    found = ops.int8_gemm(a, right, **finish, out_dtype=torch.float32)
    shifted = (expected - 3 * b.to(torch.int64).sum(0)).double()
    assert_close(found, (shifted * 0.5 * scale.double() + bias.double()).relu(), torch.float32)


@random_calls
@given(isas, st.data())
def test_conv2d_int8(isa, data) -> None:
    _C.select_isa(isa)
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3, 19]))
    per_group, outputs = draw(st.integers(1, 18)), draw(st.integers(1, 18))
    if groups > 3:
        per_group, outputs = 1, draw(st.integers(1, 2))
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    geometry = (draw(pairs), draw(st.tuples(st.integers(0, 4), st.integers(0, 4))), draw(pairs))
    size = [
        max(d * (k - 1) + 1 - 2 * p, 1) + draw(st.integers(0, 12))
        for k, p, d in zip(kernel, *geometry[1:], strict=True)
    ]
    torch.manual_seed(draw(seeds))
    image = torch.randint(0, 256, (draw(st.integers(0, 2)), groups * per_group, *size))
    image = image.to(torch.uint8)
    image = laid_out(image if draw(st.booleans()) else image.view(torch.int8), draw(layouts))
    weight = torch.randint(-128, 128, (groups * outputs, per_group, *kernel)).to(torch.int8)
    weight = laid_out(weight, draw(layouts))
    packed = ops.pack_conv2d_int8(weight, groups)
    stride, padding, dilation = geometry
    window = {"stride": stride, "padding": padding, "dilation": dilation, "zero_point_input": 3}
    found = ops.conv2d_int8(image, packed, **window, out_dtype=torch.int32)
    sums = torch.nn.functional.conv2d(image.double() - 3, weight.double(), None, *geometry, groups)
    assert torch.equal(found, sums.int())
    scale, bias = torch.rand(groups * outputs) + 0.1, torch.randn(groups * outputs)
    activation = draw(st.sampled_from([None, *ACTIVATIONS]))
    finish = {"scale_weight": scale, "bias": bias, "activation": activation}
    expected = sums * scale.double().reshape(-1, 1, 1) + bias.double().reshape(-1, 1, 1)
    expected = reference.activate(activation, expected)
    assert_close(ops.conv2d_int8(image, packed, **window, **finish), expected, torch.float32)
    rounded = ops.conv2d_int8(image, packed, **window, **finish, scale_output=64.0)
    limits = torch.iinfo(image.dtype)
    exact = (expected / 64).clamp(limits.min, limits.max)
    assert not rounded.numel() or (rounded.double() - exact).abs().max() <= 0.51


@random_calls
@given(isas, st.data())
def test_conv2d_binary(isa, data) -> None:
    _C.select_isa(isa)
    draw = data.draw
    channels, filters = draw(st.integers(1, 140)), draw(st.integers(1, 70))
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    geometry = (draw(pairs), draw(st.tuples(st.integers(0, 6), st.integers(0, 6))), draw(pairs))
    size = [
        max(d * (k - 1) + 1 - 2 * p, 1) + draw(st.integers(0, 12))
        for k, p, d in zip(kernel, *geometry[1:], strict=True)
    ]
    seed = draw(seeds)
    torch.manual_seed(seed)
    image = sprinkle_wild(torch.randn(draw(st.integers(0, 2)), channels, *size), seed)
    image = laid_out(image.to(draw(short)), draw(layouts))
    weight = laid_out(torch.randn(filters, channels, *kernel), draw(layouts))
    stride, padding, dilation = geometry
    window = {"stride": stride, "padding": padding, "dilation": dilation}
    packed = ops.pack_conv2d_binary(weight)
    left, right = (torch.where(x >= 0, 1.0, -1.0).double() for x in (image, weight))
    sums = torch.nn.functional.conv2d(left, right, None, *geometry)
    found = ops.conv2d_binary(image, packed, **window, out_dtype=torch.float32)
    assert torch.equal(found.double(), sums)
    scale, bias = torch.rand(filters), torch.randn(filters)
    activation, dtype = draw(st.sampled_from([None, *ACTIVATIONS])), draw(short)
    bits = laid_out(ops.pack_bits(image), draw(st.sampled_from(["contiguous", "strided"])))
    finish = {"scale": scale, "bias": bias, "activation": activation, "out_dtype": dtype}
    expected = sums * scale.double().reshape(-1, 1, 1) + bias.double().reshape(-1, 1, 1)
    found = ops.conv2d_binary(bits, packed, **window, **finish)
    assert_close(found, reference.activate(activation, expected), dtype)


@random_calls
@given(isas, dtypes, seeds, st.integers(0, 6), st.integers(1, 30), st.integers(0, 60),
       st.integers(0, 90), st.sampled_from([None, 0.0, 0.5]), st.integers(0, 3), st.booleans(),
       layouts, layouts)  # fmt: skip
def test_paste_masks(
    isa, dtype, seed, count, side, height, width, threshold, padding, wild, masks_as, boxes_as
) -> None:
    _C.select_isa(isa)
    torch.manual_seed(seed)
    masks = laid_out(torch.rand(count, side, side).to(dtype), masks_as)
    boxes = torch.randn(count, 4) * 40
    boxes = laid_out(sprinkle_wild(boxes, seed) if wild else boxes, boxes_as)
    found = ops.paste_masks(masks, boxes, (height, width), threshold, padding)
    assert found.shape == (count, height, width)
    if wild:
        return
    exact = reference.paste_masks(masks.double(), boxes, height, width, None, padding)
    if threshold is None:
        assert_close(found, exact, dtype)
    else:
        sure = (exact - threshold).abs() > 1e-4
        assert torch.equal(found[sure], (exact > threshold)[sure])


@st.composite
def features(draw: st.DrawFn, kinds: st.SearchStrategy[torch.dtype]) -> torch.Tensor:
    sides = st.integers(0, 20)
    shape = draw(st.tuples(st.integers(0, 3), st.integers(0, 70), sides, sides))
    torch.manual_seed(draw(seeds))
    return laid_out((3 * torch.randn(shape)).to(draw(kinds)), draw(layouts))


@random_calls
@given(isas, features(dtypes), st.booleans(), st.booleans(), layouts,
       st.sampled_from([None, *ACTIVATIONS]))  # fmt: skip
def test_bias_activation(isa, x, biased, has_residual, layout, activation) -> None:
    _C.select_isa(isa)
    bias = torch.randn(x.shape[1]).to(x.dtype) if biased else None
    residual = laid_out(torch.randn(x.shape).to(x.dtype), layout) if has_residual else None
    found = ops.bias_activation(x, bias, residual, activation)
    wide = (None if part is None else part.double() for part in (x, bias, residual))
    assert_close(found, reference.bias_activation(*wide, activation), x.dtype)


@random_calls
@given(isas, features(short), st.sampled_from([None, 0, 1, 2, 3]), st.booleans(), st.booleans(),
       st.booleans(), layouts)  # fmt: skip
def test_quantize_and_dequantize(isa, x, axis, unsigned, one_scale, wild, layout) -> None:
    _C.select_isa(isa)
    dtype = torch.uint8 if unsigned else torch.int8
    count = 1 if axis is None else x.shape[axis]
    scale = torch.rand(1 if one_scale else count) + 0.05
    zero = torch.randint(0, 100, (count,), dtype=torch.int32)
    if wild and x.numel():
        x = laid_out(sprinkle_wild(x.float(), count).to(x.dtype), layout)
    found = ops.quantize(x, scale, zero, axis=axis, dtype=dtype)
    expected = reference.quantize(x, scale, zero, axis, dtype)
    assert not found.numel() or (found.int() - expected.int()).abs().max() <= 1
    back = ops.dequantize(found, scale, zero, axis=axis, dtype=x.dtype)
    assert_close(back, reference.dequantize(found, scale, zero, axis, torch.float64), x.dtype)


@random_calls
@given(isas, seeds, st.integers(0, 2), st.integers(1, 9), st.integers(0, 40), st.integers(0, 50),
       st.booleans(), st.booleans(), short, layouts)  # fmt: skip
def test_normalize_image(isa, seed, n, c, h, w, pixels, channels_last, dtype, layout) -> None:
    _C.select_isa(isa)
    torch.manual_seed(seed)
    size = (n, h, w, c) if pixels else (n, c, h, w)
    image = laid_out(torch.randint(0, 256, size).to(torch.uint8), layout)
    mean, std = torch.rand(c).tolist(), (torch.rand(c) + 0.2).tolist()
    found = ops.normalize_image(
        image, mean, std, layout="NHWC" if pixels else "NCHW", dtype=dtype,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )  # fmt: skip
    planes = image.permute(0, 3, 1, 2) if pixels else image
    expected = reference.normalize_image(planes, mean, std, torch.float64, channels_last)
    assert_close(found, expected, dtype)
