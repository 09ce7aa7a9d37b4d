"""OpenCV: its DNN module on ONNX models, NMSBoxes and softNMSBoxes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers import onnx_model
from cvperf.bench.peers.base import Peer
from cvperf.bench.problems.conv2d import Convolution
from cvperf.bench.problems.model import Model
from cvperf.bench.problems.nms import BatchedNms, Nms, SoftNms


def conv2d(problem: Convolution) -> Contender:
    return _network(onnx_model.convolution(problem))


def model(problem: Model) -> Contender:
    return _network(onnx_model.network(problem))


def nms(problem: Nms) -> Contender:
    """Boxes as (x, y, width, height) in float64: NMSBoxes takes those or integers."""
    p = problem
    cv2 = _opencv()
    boxes, scores = _sides(p.boxes), p.scores.float().numpy()
    return Contender(
        lambda: cv2.dnn.NMSBoxes(boxes, scores, 0.0, p.iou_threshold),
        lambda kept: torch.from_numpy(kept),
        note=_COPIES,
    )


def batched_nms(problem: BatchedNms) -> Contender:
    p = problem
    cv2 = _opencv()
    boxes, scores, classes = _sides(p.boxes), p.scores.float().numpy(), p.idxs.int().numpy()
    return Contender(
        lambda: cv2.dnn.NMSBoxesBatched(boxes, scores, classes, 0.0, p.iou_threshold),
        lambda kept: torch.from_numpy(kept),
        note=_COPIES,
    )


def soft_nms(problem: SoftNms) -> Contender:
    """Boxes as integers: softNMSBoxes takes no others."""
    p, s = problem, problem.shape
    cv2 = _opencv()
    boxes, scores = _sides(p.boxes).astype("int32"), p.scores.float().numpy()
    method = getattr(cv2.dnn, f"SOFT_NMSMETHOD_SOFTNMS_{s.method.upper()}")
    settings = (s.score_threshold, s.iou_threshold, 0, s.sigma, method)
    return Contender(
        lambda: cv2.dnn.softNMSBoxes(boxes, scores, *settings),
        lambda answer: p.scattered(
            torch.from_numpy(answer[1]).long(), torch.from_numpy(answer[0]).to(p.scores.dtype)
        ),
        note=_COPIES,
    )


_COPIES = "its binding copies the boxes into a vector, inside the clock"


def _sides(boxes: Tensor) -> Any:
    """(x1, y1, x2, y2) as (x, y, width, height), float64."""
    corner, far = boxes.double().split(2, dim=1)
    return torch.cat([corner, far - corner], 1).numpy()


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
    {
        "conv2d": conv2d,
        "nms": nms,
        "batched_nms": batched_nms,
        "soft_nms": soft_nms,
        "model": model,
    },
    alternatives=("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
)
