"""The table over models: rows that tell right from wrong, a run that goes on, and the page."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from cvperf import _C
from cvperf.benchmarks import optimize_models, zoo, zoo_measure, zoo_page
from cvperf.benchmarks.zoo import Entry
from cvperf.benchmarks.zoo_detectors import agreement
from cvperf.benchmarks.zoo_weights import enliven

A, B = Entry("torchvision", "alexnet"), Entry("torchvision", "vgg11")
ROW = {
    "family": "alexnet", "side": 224, "gflop": 1.4, "covered": 0.5, "torch_steps": {"aten::pad": 2},
    "split": "", "differs": 0.5, "cvperf_error": 1e-6, "torch_error": 2e-6, "threads": 2,
    "cvperf_p20_ms": 10.0, "torch_p20_ms": 25.0,
}  # fmt: skip


class Tiny(nn.Module):
    """A residual branch that its zero norm cuts off, and a classifier of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2)
        self.branch, self.norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)
        for layer in (self.norm, self.head):
            nn.init.zeros_(layer.weight)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image).relu()
        return self.head((x + self.norm(self.branch(x))).mean((2, 3)))


def test_every_part_of_an_enlivened_model_counts() -> None:
    model, images = Tiny().eval(), torch.rand(4, 3, 16, 16)
    enliven(model, images)
    assert not model.training
    before = model(images[:1])
    for layer in (model.stem, model.branch, model.norm, model.head):
        bias = layer.bias.detach().clone()
        with torch.no_grad():
            layer.bias += 0.1 * torch.randn(bias.shape)
        assert (model(images[:1]) - before).abs().max() > 1e-3
        layer.bias.data.copy_(bias)
    assert (before - model(images[1:2])).abs().max() > 1e-3


def test_enlivening_draws_the_same_weights_each_time() -> None:
    torch.manual_seed(0)
    one = Tiny().eval()
    other = Tiny().eval()
    other.load_state_dict(one.state_dict())
    for model in (one, other):
        enliven(model, torch.ones(2, 3, 16, 16))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


class TinyEntry(Entry):
    def build(self) -> nn.Module:
        return Tiny().eval()

    def side(self, model: nn.Module) -> int:
        return 32

    @property
    def family(self) -> str:
        return "tiny"


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos made up, so that none is fetched."""

    def images(names: Sequence[str], side: int) -> torch.Tensor:
        made = [torch.randn(3, side, side, generator=_generator(name)) for name in names]
        return torch.stack(made).contiguous(memory_format=torch.channels_last)

    monkeypatch.setattr(zoo_measure, "images", images)


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(sum(name.encode()))


@pytest.mark.usefixtures("noise")
def test_a_row_tells_coverage_errors_and_times() -> None:
    found = zoo_measure.row(TinyEntry("timm", "tiny"), seconds=0.05, int8=False)
    assert json.loads(json.dumps(found)) == found
    assert found["covered"] == 1.0
    assert found["gflop"] > 0
    assert found["split"] == ""
    assert found["differs"] > 1e-3
    assert 0 < found["cvperf_error"] < 1e-5
    assert 0 < found["torch_error"] < 1e-5
    assert min(found["cvperf_ms"], found["torch_ms"]) > 0
    assert found["isa"] == _C.isa()


@pytest.mark.usefixtures("noise")
def test_a_row_with_int8_has_its_cosine_and_layers() -> None:
    pytest.importorskip("torchao")
    found = zoo_measure.row(TinyEntry("timm", "tiny"), seconds=0.05)
    assert found["int8_steps"] > 0
    assert 0.95 < found["int8_cosine"] < 1.0
    assert found["int8_ms"] > 0


@pytest.mark.usefixtures("noise")
def test_timing_anew_computes_no_answers() -> None:
    found = zoo_measure.row(TinyEntry("timm", "tiny"), 0.05, int8=False, only_times=True)
    assert "cvperf_ms" in found
    assert not {"cvperf_error", "covered", "differs"} & set(found)


def test_an_error_is_that_of_the_worst_tensor_at_its_scale() -> None:
    expected = [torch.tensor([1.0, -4.0]).double(), torch.tensor([100.0]).double()]
    assert zoo_measure.error((torch.tensor([1.0, -4.0]), torch.tensor([101.0])), expected) == 0.01
    assert zoo_measure.error([torch.tensor([1.0, -3.0]), torch.tensor([101.0])], expected) == 0.25
    off = {"a": torch.tensor([torch.nan, -4.0]), "b": torch.tensor([100.0])}
    assert zoo_measure.error(off, expected) == float("inf")


def test_names_are_those_of_the_libraries() -> None:
    timm = pytest.importorskip("timm")
    assert set(zoo.TIMM) <= set(timm.list_models())
    assert len({Entry("timm", name).family for name in zoo.TIMM}) > 40
    keys = [entry.key for entry in zoo.entries()]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & set(zoo.LEFT_OUT)
    from torchvision.models import list_models

    assert {key.split("/")[1] for key in zoo.LEFT_OUT} <= set(list_models())
    assert {"torchvision/resnet50", "torchvision.segmentation/fcn_resnet50"} <= set(keys)


@pytest.mark.parametrize(
    ("entry", "side"),
    [
        (Entry("torchvision", "squeezenet1_1"), 224),
        (Entry("torchvision.segmentation", "lraspp_mobilenet_v3_large"), 520),
        (Entry("timm", "mobilenetv3_small_100"), 224),
    ],
)
def test_a_model_is_built_and_has_the_librarys_size(entry: Entry, side: int) -> None:
    pytest.importorskip("timm")
    model = entry.build()
    assert not model.training
    assert entry.side(model) == side


def test_a_name_finds_its_entries_in_the_order_asked_for() -> None:
    found = optimize_models.chosen(["vgg11", "torchvision/alex*"])
    assert [entry.key for entry in found] == ["torchvision/vgg11", "torchvision/alexnet"]
    with pytest.raises(ValueError, match="no model is called 'vgg12'; keys are as torchvision/"):
        optimize_models.chosen(["vgg12"])


class Machine:
    """Stands for the processes: what they are asked, and rows of its own."""

    def __init__(self, **rows: dict[str, Any]) -> None:
        self.rows = rows
        self.asked: list[tuple[str, Sequence[str]]] = []

    def __call__(self, entry: Entry, options: Sequence[str], limit_s: float) -> dict[str, Any]:
        self.asked.append((entry.name, options))
        return dict(self.rows[entry.name])


def _run(path: Path, **keywords: Any) -> optimize_models.Rows:
    return optimize_models.run([A, B], path, console=Console(file=io.StringIO()), **keywords)


def test_a_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.json"
    machine = Machine(alexnet=ROW, vgg11={"failed": "ended by signal 11"})
    monkeypatch.setattr(optimize_models, "measured", machine)
    optimize_models.write(path, {A.key: ROW | {"side": 1}})
    rows = _run(path)
    assert [name for name, _ in machine.asked] == ["vgg11"]
    assert rows == {A.key: ROW | {"side": 1}, B.key: {"failed": "ended by signal 11"}}
    assert optimize_models.read(path) == rows
    assert _run(path, again=True)[A.key]["side"] == 224


def test_timing_anew_keeps_what_else_a_row_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.json"
    machine = Machine(alexnet={"cvperf_p20_ms": 5.0}, vgg11={})
    monkeypatch.setattr(optimize_models, "measured", machine)
    optimize_models.write(path, {A.key: ROW, B.key: {"failed": "why"}})
    rows = _run(path, retime=True)
    assert [name for name, _ in machine.asked] == ["alexnet"], "a row that failed has no times"
    assert "--only-times" in machine.asked[0][1]
    assert "--no-int8" in machine.asked[0][1], "it has no cosine to stand beside the time"
    assert rows[A.key] == ROW | {"cvperf_p20_ms": 5.0}
    optimize_models.write(path, {A.key: ROW | {"int8_cosine": 0.99}})
    _run(path, retime=True)
    assert "--no-int8" not in machine.asked[1][1]


def test_models_at_the_same_time_are_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(alexnet=ROW, vgg11=ROW)
    monkeypatch.setattr(optimize_models, "measured", machine)
    assert set(_run(tmp_path / "rows.json", jobs=2, seconds=3.0)) == {A.key, B.key}
    assert [options[:2] for _, options in machine.asked] == [["--seconds", "0"]] * 2
    assert zoo_measure.times({"cvperf": lambda: None}, 0) == {}
    with pytest.raises(ValueError, match="models timed 2 at a time slow each other down"):
        _run(tmp_path / "rows.json", jobs=2, retime=True)


@pytest.mark.parametrize(
    ("code", "failed"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
        ("raise ValueError('of a kind')", "ValueError: of a kind"),
        ("import time; time.sleep(60)", "not done after 2 seconds"),
    ],
)
def test_a_crash_is_a_row(code: str, failed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    actual = subprocess.run

    def run(command: Sequence[str], **keywords: Any) -> Any:
        return actual([command[0], "-c", code], **keywords)

    monkeypatch.setattr(subprocess, "run", run)
    assert optimize_models.measured(A, [], 2.0)["failed"] == failed


def test_the_page_has_every_row_and_says_what_is_wrong() -> None:
    rows = {
        A.key: ROW | {"isa": "avx512_bf16"},
        B.key: ROW | {"cvperf_error": 0.5, "differs": 0.0, "split": "it branches", "isa": "avx2"},
        "torchvision/vgg13": {"failed": "ended by signal 11"},
        "torchvision.detection/ssd300_vgg16": {
            "covered": 0.9, "split": "boxes", "boxes": 9, "torch_boxes": 10, "same_boxes": 8,
            "largest_px": 0.1, "largest_score": 1e-4, "cvperf_p20_ms": 2.0, "torch_p20_ms": 3.0,
        },
    }  # fmt: skip
    page = zoo_page.render(rows)
    assert "| alexnet | alexnet | 224 | 1.40 | 50.0% | 1.0e-06 | 2.0e-06 | 2.50 |  |  |" in page
    assert "| ssd300_vgg16 | 90.0%, in parts | 9 | 10 | 8 | 1.0e-01 | 1.0e-04 | 1.50 |" in page
    said = page.split("## Failed", 1)[1]
    assert "- vgg13: ended by signal 11" in said
    assert "- vgg11: 5.0e-01, eager 2.0e-06" in said
    assert "- vgg11: differs by 0.0e+00 of its scale" in said
    assert "- vgg11: it branches" in said
    assert "- alexnet: 2 x aten::pad" in said
    assert "## Timed without AVX-512\n\n- vgg11: avx2\n" in said
    waiting = said.split("## Not run yet")[1].split(", ")
    assert "vgg13" not in waiting
    assert "vgg13_bn" in waiting


def test_boxes_are_the_same_where_corners_and_labels_are() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]])
    eager = {"boxes": boxes, "labels": torch.tensor([1, 2, 3]), "scores": torch.ones(3)}
    ours = {
        "boxes": boxes[[2, 0, 1]] + torch.tensor([[0.25], [0.0], [9.0]]),
        "labels": torch.tensor([3, 1, 2]),
        "scores": torch.tensor([0.5, 1.0, 1.0]),
    }
    found = agreement(ours, eager)
    assert found == {
        "boxes": 3, "torch_boxes": 3, "same_boxes": 2, "largest_px": 0.25, "largest_score": 0.5
    }  # fmt: skip
    assert agreement(ours | {"labels": torch.tensor([1, 2, 3])}, eager)["same_boxes"] == 0
    assert agreement({name: each[:0] for name, each in ours.items()}, eager)["same_boxes"] == 0
