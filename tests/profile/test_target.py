"""TARGET: a file, a function, or a model's name; and what is said when it is none of these."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from cvperf.profiler import models
from cvperf.profiler.session import profile_target
from cvperf.profiler.target import TargetError, resolve


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a module of its own name in it."""
    (tmp_path / "small_net.py").write_text(
        "import torch\n"
        "runs = []\n"
        "net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))\n"
        "number = 3\n"
        "def forward():\n"
        "    runs.append(1)\n"
        "    return net(torch.zeros(1, 1, 8, 8))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "small_net", raising=False)
    return tmp_path


def test_a_function_is_warmed_up_and_then_run_with_and_without_the_profiler(folder: Path) -> None:
    p = profile_target(resolve("small_net:forward"), repeats=2)
    assert len(sys.modules["small_net"].runs) == 1 + 2 * 2
    assert (p.passes, p.unprofiled) == (2, True)
    assert [row.name for row in p.layers] == ["Sequential", "Sequential.0"]
    (call,) = [call for call in p.calls if call.family == "convolution"]
    assert len(call.us) == 1  # of one pass, not of all


def test_a_file_is_run_once_as_main_with_its_arguments(folder: Path) -> None:
    script = folder / "script.py"
    script.write_text(
        "import sys, small_net\n"
        "assert __name__ == '__main__' and sys.argv[1:] == ['--size', '3'], sys.argv\n"
        "small_net.forward()\n"
        "sys.exit(0)\n"
    )
    before = list(sys.argv), list(sys.path)
    p = profile_target(resolve("script.py", arguments=["--size", "3"]), repeats=5)
    assert (p.passes, p.unprofiled) == (1, False)
    assert len(sys.modules["small_net"].runs) == 1
    assert "convolution" in [row.name for row in p.ops]
    assert (sys.argv, sys.path) == before


def test_a_script_that_fails_says_so(folder: Path) -> None:
    (folder / "script.py").write_text("raise SystemExit(3)")
    with pytest.raises(TargetError, match=r"script\.py ended with exit code 3"):
        profile_target(resolve("script.py"), repeats=1)


def test_a_model_of_torchvision_runs_with_random_weights() -> None:
    target = resolve("squeezenet1_1", image_size=64, batch=2)
    assert target.notes == ("random weights", "input [2, 3, 64, 64] float32")
    assert target.run().shape == (2, 1000)
    assert torch.equal(target.run(), resolve("squeezenet1_1", image_size=64, batch=2).run())


def test_a_detector_of_torchvision_finds_boxes_with_random_weights() -> None:
    (answer,) = resolve("fasterrcnn_mobilenet_v3_large_320_fpn", image_size=160).run()
    assert len(answer["boxes"]) > 0


def test_a_model_s_usual_size_is_that_of_its_published_weights() -> None:
    assert models._usual_side("mobilenet_v2") == 224
    assert models._usual_side("inception_v3") == 299
    assert models._usual_side("fcn_resnet50") == 520


def test_timm_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"pip install 'cvperf\[bench\]'"):
        resolve("timm/resnet18")


def test_a_model_of_timm_runs_with_random_weights() -> None:
    pytest.importorskip("timm", reason="timm is optional: pip install 'cvperf[bench]'")
    assert resolve("timm/test_resnet", image_size=32).run().shape[0] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.py", "there is no file 'missing.py'"),
        ("missing_module:forward", "there is no module 'missing_module'"),
        ("small_net:backward", "small_net has no 'backward'; it has: net, forward"),
        ("small_net:number", "small_net:number is no function but int"),
        ("mobilenet_v9", "near: mobilenet_v2"),
    ],
)
def test_a_target_that_is_not_there_is_named(folder: Path, text: str, message: str) -> None:
    with pytest.raises(TargetError) as error:
        resolve(text)
    assert message in str(error.value)


def test_an_import_that_fails_inside_the_module_is_not_called_a_missing_target(
    folder: Path,
) -> None:
    (folder / "broken.py").write_text("import no_such_library")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        resolve("broken:run")


def test_arguments_are_for_files_only() -> None:
    with pytest.raises(TargetError, match="arguments after -- are for a Python file"):
        resolve("mobilenet_v2", arguments=["--size", "3"])
