"""A saved model is loaded without its class, and gives the same bits."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import cvperf
from cvperf.dropin.optimize import OptimizedModel


class Net(nn.Module):
    """Fused layers, a view by sizes, an operator that is torch's, answers in containers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)
        )
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5)

    def forward(self, image: Tensor, scale: float = 1.0) -> dict[Any, Any]:
        x = self.features(image) * scale
        height, width = x.shape[2:]
        x = nn.functional.interpolate(x, (height // 2, width // 2), mode="bicubic")
        rows = self.norm(x.flatten(2).transpose(1, 2))
        places = torch.arange(rows.shape[1], dtype=torch.float32)
        return {
            "rows": [rows + places[:, None], (torch.cumsum(rows, 1), height)],
            7: self.head(rows.mean(1)).to(torch.float64),
            "none": None,
        }


class Inverted(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        inner = 4 * channels
        self.stride = stride
        self.body = nn.Sequential(
            *(nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            *(nn.BatchNorm2d(inner), nn.ReLU6()),
            *(nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if self.stride == 2 else x + self.body(x)


def small_mobilenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU6(), Inverted(8, 1), Inverted(8, 2), Inverted(8, 1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)),
    ).eval()


def images(*shape: int) -> Tensor:
    return torch.rand(shape or (2, 3, 32, 32)) - 0.3


def check_same(model: OptimizedModel, path: Path, *batches: Tensor) -> OptimizedModel:
    """Save, load, and compare every bit of the answers, and who computes them."""
    expected = [model(batch) for batch in batches]
    cvperf.save(model, path)
    loaded = cvperf.load(path)
    for batch, answer in zip(batches, expected, strict=True):
        torch.testing.assert_close(loaded(batch), answer, rtol=0, atol=0)
    for found, expected in zip(loaded.explain().plans, model.explain().plans, strict=True):
        assert found.weight_bytes <= expected.weight_bytes  # equal weights are saved once
        assert replace(found, weight_bytes=expected.weight_bytes) == expected
    assert loaded.explain().kind == model.explain().kind
    return loaded


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(path: Path) -> Path:
    cvperf.save(cvperf.optimize(Net().eval(), example_inputs=images(2, 3, 16, 12)), path)
    return path


def test_two_sizes_and_open_ones(path: Path) -> None:
    fast = cvperf.optimize(Net().eval())
    first, second = images(2, 3, 16, 12), images(3, 3, 20, 16)
    loaded = check_same(fast, path, first, second)
    assert len(loaded._captured) == 2
    other = images(5, 3, 31, 19)  # of the graph in which these are open
    torch.testing.assert_close(loaded(other), fast(other), rtol=0, atol=0)
    answer = loaded(first)
    assert list(answer) == ["rows", 7, "none"]
    assert isinstance(answer["rows"][1], tuple)
    by_torch = {"aten::cumsum", "aten::upsample_bicubic2d.vec", "aten::layer_norm"}
    assert by_torch <= loaded.explain().plans[0].torch.keys()


def test_on_every_instruction_set(saved: Path, isa: str) -> None:
    """A file is of none: what was written on this machine's best is right on all."""
    torch.manual_seed(5)
    model = Net().eval()
    batch = images(2, 3, 16, 12)
    fast = cvperf.optimize(model, example_inputs=batch)
    before = saved.read_bytes()
    check_same(fast, saved, batch)
    weights = load_file(saved)
    assert set(weights) == set(_names(before)), "the same tensors, whatever wrote them"


def _names(content: bytes) -> list[str]:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return [name for name in header if name != "__metadata__"]


@pytest.mark.parametrize("config", [cvperf.FusionConfig(plans=3), cvperf.Bf16Config()])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_network_of_inverted_blocks(
    path: Path, config: cvperf.FusionConfig, channels_last: bool
) -> None:
    model = small_mobilenet()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    loaded = check_same(cvperf.optimize(model, config), path, images(), images(4, 3, 40, 24))
    assert loaded._config.plans == config.plans


def test_int8(path: Path) -> None:
    pytest.importorskip("torchao")
    fast = cvperf.optimize(small_mobilenet(), cvperf.Int8Config(calibration=[images()]))
    loaded = check_same(fast, path, images(), images(3, 3, 48, 32))
    assert loaded.explain().plans[0].ours["conv2d_int8"] == 10
    assert any(each.dtype == torch.uint8 for each in load_file(path).values())


def test_int8_that_was_only_calibrated(path: Path) -> None:
    pytest.importorskip("torchao")
    batch = images()
    fast = cvperf.optimize(small_mobilenet(), cvperf.Int8Config(calibration=[batch]))
    cvperf.save(fast, path)
    assert torch.equal(cvperf.load(path)(batch), fast(batch))


def test_resnet18(path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    model = models.resnet18().eval()
    check_same(cvperf.optimize(model), path, images(1, 3, 64, 64), images(2, 3, 64, 96))
    size = sum(each.nbytes for each in model.parameters())
    assert path.stat().st_size < 1.01 * size, "both graphs share their weights"


def test_an_operator_of_torchvision(path: Path) -> None:
    ops = pytest.importorskip("torchvision.ops")

    class Crops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            boxes = torch.tensor([[0.0, 0.0, 0.0, 5.0, 6.0]])
            return ops.roi_align(x, boxes, 3, 1.0, 2).relu()

    check_same(cvperf.optimize(Crops().eval()), path, images())


def test_arguments_by_name_and_constants(path: Path) -> None:
    fast = cvperf.optimize(Net().eval())
    batch = images(2, 3, 16, 12)
    expected = fast(scale=2.0, image=batch)
    cvperf.save(fast, path)
    loaded = cvperf.load(path)
    torch.testing.assert_close(loaded(scale=2.0, image=batch), expected, rtol=0, atol=0)
    with pytest.raises(cvperf.ArgumentError, match="no graph of this loaded model takes"):
        loaded(batch)
    with pytest.raises(cvperf.ArgumentError, match="no graph of this loaded model takes"):
        loaded(image=batch, scale=3.0)


def test_weights_in_any_order_with_gaps_and_shared(path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("turned", torch.rand(5, 7, 2).permute(2, 0, 1))
            self.register_buffer("gaps", torch.rand(2, 5, 14)[..., ::2])
            self.register_buffer("wide", torch.rand(2, 5, 1).expand(2, 5, 7))
            self.register_buffer("narrow", torch.rand(7).bfloat16())
            self.register_buffer("mask", torch.rand(5, 7) > 0.5)
            self.register_buffer("index", torch.tensor([1, 0, 0]))
            self.register_buffer("number", torch.tensor(2.5))
            self.register_buffer("none", torch.rand(0, 5, 7))
            self.same = self.turned

        def forward(self, x: Tensor) -> Tensor:
            x = x * self.turned + self.gaps / (self.wide + self.same) + self.narrow.float()
            return torch.cat([x.masked_fill(self.mask, 1.0)[self.index] * self.number, self.none])

    model, x = Odd().eval(), torch.rand(2, 5, 7)
    loaded = check_same(cvperf.optimize(model), path, x)
    torch.testing.assert_close(loaded(x), model(x))
    graph = loaded._captured[0].graph
    strides = [each.stride() for each in graph.buffers() if each.shape == (2, 5, 7)]
    assert (1, 14, 2) in strides, "in the order in which it was"


def test_a_process_that_has_not_the_class(saved: Path, tmp_path: Path) -> None:
    batch = images(2, 3, 16, 12)
    expected = cvperf.load(saved)(batch)[7]
    save_file({"batch": batch, "expected": expected}, tmp_path / "io.safetensors")
    program = f"""
import pickle, sys, torch
from safetensors.torch import load_file
import cvperf
cvperf.load  # is imported
def refuse(*args, **kwargs): raise AssertionError("unpickled")
pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse
io = load_file({str(tmp_path / "io.safetensors")!r})
torch.set_num_threads(2)
fast = cvperf.load({str(saved)!r})
assert torch.equal(fast(io["batch"])[7], io["expected"])
assert "test_saving" not in sys.modules
print(fast.explain())
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "model (Net)" in result.stdout


def test_what_is_loaded_is_an_optimised_model(saved: Path, path: Path) -> None:
    loaded = cvperf.load(saved)
    batch = images(2, 3, 16, 12)
    expected = loaded(batch)
    cvperf.save(loaded, path)  # over the file that it came from
    for twin in (copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded)), cvperf.load(path)):
        torch.testing.assert_close(twin(batch), expected, rtol=0, atol=0)
    assert not hasattr(loaded, "original")
    with pytest.raises(cvperf.ArgumentError, match="requires one"):
        loaded(batch.requires_grad_())


def test_a_size_that_no_graph_takes(saved: Path) -> None:
    loaded = cvperf.load(saved)
    with pytest.raises(cvperf.ArgumentError) as error:
        loaded(images(2, 3, 20, 12))
    message = str(error.value)
    assert "float32[2, 3, 20, 12]" in message
    assert "they take: float32[2, 3, 16, 12]" in message
    assert "Before cvperf.save" in message
    loaded(images(2, 3, 16, 12))


def test_comparisons_of_sizes_are_kept(path: Path) -> None:
    class Pads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if x.shape[2] % 2 == 0 and x.shape[3] > x.shape[2] else x[..., 1:]

    fast = cvperf.optimize(Pads().eval())
    loaded = check_same(fast, path, images(2, 3, 8, 16), images(2, 3, 10, 20))
    batch = images(2, 3, 6, 13)
    assert torch.equal(loaded(batch), fast(batch))
    for shape in ((2, 3, 7, 12), (2, 3, 12, 6)):
        with pytest.raises(cvperf.ArgumentError, match="no graph"):
            loaded(images(*shape))
    assert len(fast._captured) == 2


# --- what cannot be saved


class Colour(Enum):
    RED = "red"


class Returns(nn.Module):
    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x + 1)


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Returns(lambda x: defaultdict(list, a=x)), "defaultdict"),
        (Returns(lambda x: {Colour.RED: x}), "enum"),
        (Counts(), "changes calls of the model"),
        (Decides(), r"Python between its parts.*by itself: layer"),
    ],
)
def test_what_is_refused(path: Path, model: nn.Module, message: str) -> None:
    fast = cvperf.optimize(model.eval(), example_inputs=images())
    with pytest.raises(cvperf.ArgumentError, match=message):
        cvperf.save(fast, path)
    assert not list(path.parent.iterdir())


def test_bad_arguments(path: Path) -> None:
    with pytest.raises(cvperf.ArgumentError, match="example_inputs"):
        cvperf.save(cvperf.optimize(Net().eval()), path)
    with pytest.raises(TypeError, match="returned, got Net"):
        cvperf.save(Net().eval(), path)  # type: ignore[arg-type]
    fast = cvperf.optimize(Net().eval(), example_inputs=images())
    with pytest.raises(FileNotFoundError):
        cvperf.save(fast, path.parent / "missing" / "model.safetensors")
    with pytest.raises(FileNotFoundError):
        cvperf.load(path)


# --- files that are not as they were


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> Path:
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["cvperf"])
    tensors = load_file(path)
    change(description, tensors)
    save_file(tensors, path, {"cvperf": json.dumps(description)})
    return path


def refuses(path: Path, message: str) -> None:
    with pytest.raises(cvperf.ArgumentError, match=message) as error:
        cvperf.load(path)
    assert repr(os.fspath(path)) in str(error.value)


@pytest.mark.parametrize("version", [1, 3])
def test_another_version(saved: Path, version: int) -> None:
    file = rewritten(saved, lambda d, _: d.update(version=version))
    refuses(file, f"its version is {version}.*reads 2")


def test_no_such_file(saved: Path) -> None:
    save_file({"a": torch.zeros(1)}, saved)
    refuses(saved, "was not written by cvperf.save")
    saved.write_bytes(b"no tensors at all, but text")
    refuses(saved, "no file of cvperf.save")
    saved.write_bytes(b"")
    refuses(saved, "no file of cvperf.save")


def test_half_a_file(saved: Path) -> None:
    content = saved.read_bytes()
    for length in (4, 100, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:length])
        refuses(saved, "not a whole one")


def test_a_tensor_is_missing(saved: Path) -> None:
    refuses(rewritten(saved, lambda _, tensors: tensors.pop("head.weight")), r"head\.weight")


def _first_call(description: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in description["graphs"][0]["nodes"] if "args" in each)


@pytest.mark.parametrize(
    "name",
    [
        "os.system.default",
        "python.eval",
        "builtins.eval",
        "aten.__class__.__init__",
        "aten.conv2d.__class__",
        "aten.no_such.default",
        "aten.from_file.default",
        "profiler._record_function_enter.default",
        "__import__('os').system('true')",
    ],
)
def test_an_operator_that_must_not_be(saved: Path, name: str) -> None:
    refuses(rewritten(saved, lambda d, _: _first_call(d).update(op=name)), "unknown operator")


def _with_enum(description: dict[str, Any]) -> None:
    context = json.dumps([{"__enum__": True, "fqn": "this:Any", "name": "x"}])
    description["graphs"][0]["answers"][1]["context"] = context.replace("_", "\\u005f")


def _with_factory(description: dict[str, Any]) -> None:
    description["graphs"][0]["answers"][1]["type"] = "collections.defaultdict"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with_enum, "enums"),
        (_with_factory, "defaultdict"),
        (lambda d: d["graphs"][0].pop("nodes"), "'nodes'"),
        (lambda d: d["graphs"][0]["nodes"].pop(), "cannot be loaded"),
        (lambda d: d["graphs"][0]["nodes"].insert(0, {"op": "input"}), "do not fit"),
        (lambda d: _first_call(d).update(args=[{"node": 999}]), "node 999 is not there"),
        (lambda d: _first_call(d).update(args=[{"run": "this"}]), "unknown argument"),
        (lambda d: _first_call(d).update(kwargs={"a=print(1)": 1}), "has no argument"),
        (lambda d: d["graphs"][0]["answers"][1].update(type="a.Class"), "Import the package"),
        (lambda d: d.pop("version"), "'version'"),
        (lambda d: d.update(plans="many"), "cannot be loaded"),
    ],
)
def test_a_description_that_was_changed(
    saved: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    refuses(rewritten(saved, lambda description, _: change(description)), message)
    assert "this" not in sys.modules


def test_a_guard_is_no_text_to_evaluate(path: Path) -> None:
    fast = cvperf.optimize(Net().eval(), example_inputs=images(2, 3, 16, 12))
    fast(images(3, 3, 20, 16))
    cvperf.save(fast, path)

    def change(description: dict[str, Any], _: Any) -> None:
        guards = description["graphs"][1]["conditions"]["guards"]
        assert guards
        guards[0] = {"function": "print", "arguments": [{"symbol": "__import__('os')"}]}

    refuses(rewritten(path, change), "'print' is none of")


def test_killed_while_writing_leaves_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    program = f"""
import os, signal, torch
from torch import nn
import cvperf
from cvperf.dropin import saving
def half(tensors, filename, metadata):
    with open(filename, "wb") as file:
        file.write(b"half of a file")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
saving.save_file = half
fast = cvperf.optimize(nn.Conv2d(3, 4, 1).eval(), example_inputs=torch.rand(1, 3, 4, 4))
cvperf.save(fast, {str(saved)!r})
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert saved.read_bytes() == before


def test_an_error_while_writing_leaves_the_old_file(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()
    fast = cvperf.load(saved)

    def fail(tensors: Any, filename: Path, metadata: Any) -> None:
        filename.write_bytes(b"half of a file")
        raise OSError("no space")

    monkeypatch.setattr("cvperf.dropin.saving.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        cvperf.save(fast, saved)
    assert [each.name for each in saved.parent.iterdir()] == [saved.name]
    assert saved.read_bytes() == before
