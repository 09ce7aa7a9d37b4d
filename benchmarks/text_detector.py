"""PP-OCRv4's text detector, from its ONNX file, on a photographed page: us against ONNX Runtime.

``python -m cvperf.benchmarks.text_detector`` finds the boxes of text with both, by the same code
after the network, says whether they are the same and how long the network takes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cvperf
from cvperf.bench.contender import Contender
from cvperf.bench.peers.torch import inference
from cvperf.bench.timing import Plan, measure
from cvperf.data.packages import fetch

THRESHOLD = 0.3
"""How sure a pixel must be to be text."""
LEAST_AREA = 16
"""Pixels; smaller specks are no text."""

Box = tuple[int, int, int, int]
"""x, y, width and height in pixels."""


def run(seconds: float = 2.0, photo: Path | None = None) -> dict[str, Any]:
    """Race both on one image.

    Args:
        seconds: time of each contender.
        photo: an image file; None: the page of scikit-image.

    Returns:
        Sizes, boxes of each, the largest difference between the maps, and milliseconds.
    """
    folder = fetch("rapidocr-onnxruntime") / "rapidocr_onnxruntime" / "models"
    file = folder / "ch_PP-OCRv4_det_infer.onnx"
    image = page(photo or fetch("scikit-image") / "skimage" / "data" / "page.png")
    fast = cvperf.optimize(cvperf.from_onnx(file), example_inputs=image)
    runs: dict[str, Callable[[], Any]] = {"cvperf": lambda: fast(image)}
    peer = _onnxruntime(file, image)
    runs["onnxruntime"] = peer
    with inference():
        maps = {name: torch.as_tensor(each()) for name, each in runs.items()}
    found = {name: boxes(each) for name, each in maps.items()}
    contenders = [Contender(each, context=inference) for each in runs.values()]
    plan = Plan(seconds=seconds, min_samples=7, max_samples=200, precision=0.01)
    timings = dict(zip(runs, measure(contenders, plan), strict=True))
    return {
        "size": list(image.shape),
        "boxes": {name: len(each) for name, each in found.items()},
        "same_boxes": found["cvperf"] == found["onnxruntime"],
        "largest_difference": float((maps["cvperf"] - maps["onnxruntime"]).abs().max()),
        "median_ms": {name: timing.median for name, timing in timings.items()},
        "p20_ms": {name: timing.percentile(20) for name, timing in timings.items()},
        "threads": torch.get_num_threads(),
        "covered": fast.explain().plans[0].covered,
    }


def page(file: Path) -> Tensor:
    """The image as the detector takes it: [1, 3, H, W] in -1..1, sides multiples of 32.

    Its short side becomes 736 pixels if it has fewer, as rapidocr does it.
    """
    from PIL import Image

    image = Image.open(file).convert("RGB")
    ratio = max(1.0, 736 / min(image.size))
    width, height = (max(32, round(side * ratio / 32) * 32) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def boxes(text: Tensor) -> list[Box]:
    """Boxes around the connected pixels that are text, from a map [1, 1, H, W], sorted."""
    import cv2

    mask = (text[0, 0].numpy() > THRESHOLD).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    around = [tuple(int(each) for each in cv2.boundingRect(contour)) for contour in contours]
    return sorted((x, y, w, h) for x, y, w, h in around if w * h >= LEAST_AREA)


def _onnxruntime(file: Path, image: Tensor) -> Callable[[], Any]:
    """The network's map by ONNX Runtime with torch's number of threads; the input is not copied."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    array, binding = image.numpy(), session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, array)
    binding.bind_output(session.get_outputs()[0].name, "cpu")

    def call() -> Any:
        session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()

    return call


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="PP-OCRv4's text detector: us and ONNX Runtime.")
    parser.add_argument("--seconds", type=float, default=2.0, help="time of each contender")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--photo", type=Path, help="an image file; scikit-image's page if left out")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(json.dumps(run(options.seconds, options.photo), indent=2))


if __name__ == "__main__":
    main()
