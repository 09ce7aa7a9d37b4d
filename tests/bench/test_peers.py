"""Every installed peer gives the reference's answer, or says what it does not offer."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cvperf
from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers import base
from cvperf.bench.peers.base import Peer, all_peers, select
from cvperf.bench.peers.ours import OURS
from cvperf.bench.problems.base import Shape
from cvperf.bench.problems.conv2d import (
    ConvolutionShape,
    InputGradShape,
    WeightGradShape,
)
from cvperf.bench.problems.conv2d_int8 import Conv2dInt8Shape
from cvperf.bench.problems.elementwise import (
    BiasActivationShape,
    DequantizeShape,
    NormalizeImageShape,
    QuantizeShape,
)
from cvperf.bench.problems.int8_gemm import Int8GemmShape
from cvperf.bench.problems.model import ModelShape
from cvperf.bench.problems.nms import (
    ARRANGEMENTS,
    BatchedNmsShape,
    NmsPaddedShape,
    NmsShape,
    SoftNmsShape,
)
from cvperf.bench.problems.paste_masks import PasteMasksShape
from cvperf.bench.problems.roi_align import (
    MultiscaleRoiAlignShape,
    RoiAlignBackwardShape,
    RoiAlignShape,
)
from cvperf.ops._activation import ACTIVATIONS

HERE = [peer for peer in (OURS, *all_peers()) if "cpu" in peer.devices and not peer.missing()]
REQUIRED = {"cvperf", "cvperf drop-in", "torch", "torch.compile", "torchvision"}

PLAIN = ConvolutionShape(name="3x3", n=2, c=8, h=9, w=11, o=16, kernel=(3, 3), padding=(1, 1))
ODD = {
    **{"name": "odd", "n": 2, "c": 12, "h": 17, "w": 13, "o": 18, "kernel": (3, 5)},
    **{"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 3, "bias": False},
}
DEPTHWISE = replace(PLAIN, name="depthwise", c=16, groups=16, stride=(2, 2), activation="relu6")
ROIS = {
    **{"name": "rois", "n": 2, "c": 8, "h": 25, "w": 32, "boxes": 16},
    **{"output_size": (7, 5), "spatial_scale": 0.25, "box_side": (8.0, 64.0)},
}
GEMM = Int8GemmShape(name="33x24x72", m=33, n=24, k=72)


def _convolutions() -> Iterator[Shape]:
    for activation in (None, *ACTIVATIONS):
        yield replace(PLAIN, activation=activation)
    for dtype in ("bfloat16", "float16"):
        yield replace(PLAIN, activation="relu", dtype=dtype)
    yield replace(PLAIN, layout="contiguous", activation="silu")
    yield from (ConvolutionShape(**ODD), ConvolutionShape(**ODD, layout="contiguous"))
    yield from (DEPTHWISE, replace(DEPTHWISE, stride=(1, 1), dilation=(2, 2), o=32))
    yield from (InputGradShape(**ODD), WeightGradShape(**ODD))


def _detection() -> Iterator[Shape]:
    for arrangement in ARRANGEMENTS:
        shape = {"name": arrangement, "boxes": 300, "arrangement": arrangement}
        yield NmsShape(**shape)
        yield BatchedNmsShape(**shape, classes=5)
        yield NmsPaddedShape(**shape, images=3, max_output=40)
        for method in ("linear", "gaussian"):
            yield SoftNmsShape(**shape, method=method)
    for shape in (RoiAlignShape, RoiAlignBackwardShape):
        for aligned in (False, True):
            yield shape(**ROIS, aligned=aligned)
    yield RoiAlignShape(**ROIS, aligned=True, layout="contiguous", sampling_ratio=0)
    yield RoiAlignShape(**ROIS, dtype="bfloat16")
    yield MultiscaleRoiAlignShape(**{**ROIS, "box_side": (8.0, 128.0)}, levels=3)


def _quantised() -> Iterator[Shape]:
    yield from (GEMM, replace(GEMM, fused=True))
    layer = {"name": "3x3", "n": 2, "c": 8, "h": 9, "w": 11, "o": 16, "kernel": (3, 3)}
    for activation in (None, "relu", "silu"):
        yield Conv2dInt8Shape(**layer, padding=(1, 1), activation=activation)
    yield Conv2dInt8Shape(**(layer | {"o": 8}), groups=8, stride=(2, 2), bias=False)


def _elementwise() -> Iterator[Shape]:
    size = {"name": "odd", "n": 2, "c": 13, "h": 9, "w": 11}
    for layout in ("channels_last", "contiguous"):
        yield BiasActivationShape(**size, layout=layout, activation="silu")
        yield NormalizeImageShape(name="odd", n=2, h=9, w=11, layout=layout, order="NCHW")
        for each in (False, True):
            yield QuantizeShape(**size, layout=layout, per_channel=each)
            yield DequantizeShape(**size, layout=layout, per_channel=each)
    yield BiasActivationShape(**size, residual=False, dtype="bfloat16")
    yield DequantizeShape(**size, dtype="bfloat16")
    for threshold in (None, 0.5):
        pasted = {"name": "odd", "masks": 9, "h": 150, "w": 99, "box_side": (3.0, 120.0)}
        yield PasteMasksShape(**pasted, threshold=threshold)


SHAPES = [*_convolutions(), *_detection(), *_quantised(), *_elementwise()]


def _label(value: Any) -> str:
    if isinstance(value, Peer):
        return value.name
    parts = (value.op, value.name, value.dtype, value.layout)
    told = ("activation", "aligned", "fused", "method")
    rest = [str(getattr(value, name, "")) for name in told]
    return "-".join([*parts, *filter(None, rest)])


def _costly(peer: Peer, shape: Shape) -> bool:
    """Seconds of C++ compiler for what another shape of the list compiles already."""
    repeated = shape.dtype == "float16" or (shape.name, shape.layout) == ("odd", "contiguous")
    return peer.name == "torch.compile" and repeated


OFFERED = [
    (peer, shape)
    for shape in SHAPES
    for peer in HERE
    if shape.op in peer.makers and not _costly(peer, shape)
]


@pytest.mark.parametrize(("peer", "shape"), OFFERED, ids=_label)
def test_a_peer_agrees_with_the_reference_or_says_why_not(peer: Peer, shape: Shape) -> None:
    problem = shape.problem()
    if _refuses(peer, shape):
        with pytest.raises(Unsupported, match=r"\w+ \w+ \w+"):
            peer.contender(problem)
        return
    contender = peer.contender(problem)
    expected = problem.reference()
    errors = [problem.error(expected, contender.once()) for _ in range(2)]
    assert max(errors) <= problem.tolerance, "of the second run too: nothing is left by the first"


def _refuses(peer: Peer, shape: Shape) -> bool:
    """What the installed versions do not offer; all else must be right."""
    half = shape.dtype in ("bfloat16", "float16")
    if shape.op == "conv2d_int8":
        ours = peer.name in ("cvperf", "one-thread")
        return not ours and getattr(shape, "activation", None) == "silu"
    if shape.op == "int8_gemm":
        unfused = not getattr(shape, "fused", False)
        return peer.name == "openvino" or (unfused and peer.name in ("torchao", "torch.compile"))
    if shape.op in ("dequantize", "bias_activation"):
        return peer.name == "torch" and shape.op == "dequantize" and half
    if peer.name == "torchvision":
        return shape.dtype == "bfloat16"
    return half and peer.name in ("onnxruntime", "openvino", "opencv")


class Block(nn.Module):
    """Enough of a network to be exported: convolution, norm, activation, pooling, classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Hardswish())
        self.classes = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classes(self.features(image).mean((2, 3)))


class Undecided(nn.Module):
    """No graph: which branch runs depends on the values."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.exp() if image.sum().item() > 0 else image


def _model(build: Any) -> ModelShape:
    return ModelShape(name="net", model="net", batch=2, side=16, build=build)


@pytest.mark.parametrize("peer", [peer for peer in HERE if "model" in peer.makers], ids=_label)
def test_a_network_runs_on_every_peer_that_takes_networks(peer: Peer) -> None:
    problem = _model(Block).problem()
    assert problem.error(problem.reference(), peer.contender(problem).once()) <= problem.tolerance


def test_a_network_that_is_no_single_graph_is_refused_with_the_compilers_words() -> None:
    (peer,) = select(["torch.compile"], "cpu")
    with pytest.raises(Unsupported, match="not one graph"):
        peer.contender(_model(Undecided).problem())


def test_what_is_always_installed_with_the_tests_is_tested() -> None:
    assert {peer.name for peer in HERE} >= REQUIRED


def test_names_are_unique_and_those_that_the_issue_lists() -> None:
    names = [peer.name for peer in all_peers()]
    assert len(set(names)) == len(names)
    assert set(names) == {
        *("cvperf drop-in", "torch", "torch.compile", "torchvision", "torchao", "onnxruntime"),
        *("openvino", "opencv", "tensorflow", "cudnn", "cublaslt", "tensorrt", "one-thread"),
        "sweep",
    }


@pytest.mark.parametrize("peer", all_peers(), ids=_label)
def test_a_peer_that_is_not_installed_is_named_with_its_command(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_installed", lambda package: False)
    assert peer.missing() == f"not installed: pip install {' '.join(peer.packages)}"


def test_another_distribution_of_the_same_modules_counts_as_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "_installed", lambda package: package in ("opencv-python", "onnx"))
    monkeypatch.setattr(base, "version", lambda package: "5.0")
    (peer,) = select(["opencv"], "cpu")
    assert peer.missing() is None
    assert peer.version() == "opencv-python 5.0"


@pytest.mark.parametrize("peer", HERE, ids=_label)
def test_its_version_is_recorded(peer: Peer) -> None:
    name, number = peer.version().split(" ", 1)
    assert name
    assert number[0].isdigit()


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no peer is called cudn; known: .*cudnn"):
        select(["cudn"], "cpu")


def test_listing_the_peers_imports_none_of_them() -> None:

    code = (
        "import sys; from cvperf.bench.peers.base import all_peers; all_peers();"
        "heavy = {'onnx', 'onnxruntime', 'openvino', 'cv2', 'tensorflow', 'torchao', 'tensorrt'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_eager_torch_pays_for_no_gradient_it_was_not_asked_for() -> None:
    """The mask of convolution_backward: the others come back as None."""
    (peer,) = select(["torch"], "cpu")
    problem = InputGradShape(**ODD).problem()
    assert peer.contender(problem).once().shape == problem.image.shape


def test_torch_compile_fuses_the_activation_into_the_convolution() -> None:
    """And goes on doing so past the eight recompilations after which dynamo gives up."""
    (peer,) = select(["torch.compile"], "cpu")
    for width in range(8, 18):
        problem = replace(PLAIN, w=width, c=32, o=32, activation="relu").problem()
        contender = peer.contender(problem)
    with torch.profiler.profile() as profile, contender.context():
        contender.run()
    called = {event.key for event in profile.key_averages()}
    assert "mkldnn::_convolution_pointwise" in called
    assert "aten::relu_" not in called


def _threads_of(contender: Contender) -> int:
    """Threads that did at least a quarter of the busiest one's work in thirty runs."""
    contender.once()
    _wait_for_rest()
    before = _processor_times()
    with contender.context():
        for _ in range(30):
            contender.run()
    worked = _worked_since(before)
    return sum(time > 0.25 * max(worked) for time in worked)


def _wait_for_rest() -> None:
    """Until no thread works: those of earlier contenders wait awake for more to do at first."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        before = _processor_times()
        time.sleep(0.05)
        if max(_worked_since(before)) < 5_000_000:
            return
    raise AssertionError("a thread of this process still works after 30 seconds of doing nothing")


def _worked_since(before: dict[str, int]) -> list[int]:
    """Nanoseconds that each thread has worked since."""
    return [time - before.get(thread, 0) for thread, time in _processor_times().items()]


def _processor_times() -> dict[str, int]:
    times = {}
    for thread in Path("/proc/self/task").iterdir():
        fields = (thread / "schedstat").read_text().split()
        times[thread.name] = int(fields[0])
    return times


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_a_peer_works_with_as_many_threads_as_torch(name: str) -> None:
    (peer,) = select([name], "cpu")
    if (missing := peer.missing()) is not None:
        pytest.skip(missing)
    shape = replace(PLAIN, n=1, c=64, h=28, w=28, o=64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert _threads_of(peer.contender(shape.problem())) == 1
    finally:
        torch.set_num_threads(before)
    assert _threads_of(peer.contender(shape.problem())) >= 2


def test_one_thread_is_all_that_it_has_and_only_while_it_runs() -> None:
    (peer,) = select(["one-thread"], "cpu")
    threads = torch.get_num_threads()
    with peer.contender(PLAIN.problem()).context():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads


def test_opencv_is_set_to_as_many_threads_as_torch() -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.setNumThreads(7)
    (peer,) = select(["opencv"], "cpu")
    peer.contender(NmsShape(name="few", boxes=10, arrangement="uniform").problem())
    assert cv2.getNumThreads() == torch.get_num_threads()


def test_ours_runs_inside_use_for_networks_and_leaves_nothing_behind() -> None:
    contender = OURS.contender(_model(Block).problem())
    with contender.context():
        contender.run()
        assert cvperf.explain() is not None
    assert not torch.is_inference_mode_enabled()


def test_peers_are_found_by_module_without_a_list() -> None:
    for peer in all_peers():
        module = peer.name.replace("cvperf ", "").replace(".", "_").replace("-", "_")
        assert importlib.import_module(f"cvperf.bench.peers.{module}").PEER is peer
