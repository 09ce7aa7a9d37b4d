"""OpenCV: its DNN module on ONNX models, and NMSBoxes."""

from __future__ import annotations

from typing import Any

import torch

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers import onnx_model
from cvperf.bench.peers.base import Peer
from cvperf.bench.problems.conv2d import Convolution
from cvperf.bench.problems.model import Model
from cvperf.bench.problems.nms import Nms


def conv2d(problem: Convolution) -> Contender:
    return _network(onnx_model.convolution(problem))


def model(problem: Model) -> Contender:
    return _network(onnx_model.network(problem))


def nms(problem: Nms) -> Contender:
    """Boxes as (x, y, width, height) in float64: NMSBoxes takes those or integers."""
    p = problem
    cv2 = _opencv()
    corner, far = p.boxes.double().split(2, dim=1)
    boxes = torch.cat([corner, far - corner], 1).numpy()
    scores = p.scores.float().numpy()
    return Contender(
        lambda: cv2.dnn.NMSBoxes(boxes, scores, 0.0, p.iou_threshold),
        lambda kept: torch.from_numpy(kept),
        note="its binding copies the boxes into a vector, inside the clock",
    )


def _network(problem: onnx_model.OnnxModel) -> Contender:
    """Raises Unsupported where OpenCV cannot read the model."""
    import numpy as np

    cv2 = _opencv()
    if len(problem.inputs) != 1:
        raise Unsupported(f"networks of one input; this has {len(problem.inputs)}")
    try:
        network = cv2.dnn.readNetFromONNX(np.frombuffer(problem.data, np.uint8))
    except cv2.error as error:
        raise Unsupported(f"cv2.dnn.readNetFromONNX: {str(error).splitlines()[0]}") from error
    (image,) = problem.inputs.values()
    network.setInput(image)
    return Contender(
        network.forward,
        lambda answer: torch.from_numpy(answer),
        layout="contiguous",
        note="setInput, which copies the image, and reading the model are before the clock",
    )


def _opencv() -> Any:
    import cv2

    cv2.setNumThreads(torch.get_num_threads())
    return cv2


PEER = Peer(
    "opencv",
    ("opencv-python-headless", "onnx"),
    {"conv2d": conv2d, "nms": nms, "model": model},
    alternatives=("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
)
