"""TensorFlow on the CPU: graph functions on NHWC tensors, its preferred order."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers.base import Peer
from cvperf.bench.problems.conv2d import Convolution
from cvperf.bench.problems.nms import Nms


def conv2d(problem: Convolution) -> Contender:
    """Convolution, bias and activation in one tf.function: grappler fuses what it can."""
    p = problem
    tf = _tensorflow()
    depthwise = p.groups > 1 and p.groups == p.image.shape[1]
    if depthwise and p.stride[0] != p.stride[1]:
        raise Unsupported(f"tf.nn.depthwise_conv2d wants equal strides, not {p.stride}")
    image = _constant(p.image.permute(0, 2, 3, 1))
    borders = [(0, 0), *((side, side) for side in p.padding), (0, 0)]
    padding: Any = borders
    if depthwise:
        # [o, 1, kh, kw] -> [kh, kw, c, o / c]
        weight = p.weight.reshape(p.groups, -1, *p.weight.shape[2:]).permute(2, 3, 0, 1)
        convolve, strides = tf.nn.depthwise_conv2d, (1, *p.stride, 1)
        # TensorFlow 2.21 aborts the process where oneDNN fuses a depthwise convolution whose
        # padding is given in numbers.
        padding = "SAME" if _is_same(p) else "VALID"
    else:
        weight = p.weight.permute(2, 3, 1, 0)
        convolve, strides = tf.nn.conv2d, (1, *p.stride, 1)
    finish = _activation(p.activation)

    def call(x: Any) -> Any:
        # Made inside, they are constants of the graph; from outside they would be its arguments.
        x = tf.pad(x, borders) if padding == "VALID" else x
        sums = convolve(x, _constant(weight), strides, padding, dilations=p.dilation)
        return finish(sums if p.bias is None else tf.nn.bias_add(sums, _constant(p.bias)))

    run = tf.function(call, autograph=False)
    return Contender(
        lambda: run(image),
        lambda y: torch.from_numpy(tf.cast(y, tf.float32).numpy()).permute(0, 3, 1, 2),
        layout="channels_last",
        note="traced before the clock",
    )


def _is_same(p: Convolution) -> bool:
    """Whether TensorFlow's "SAME" pads as this layer does: an output as large as the image."""
    reaches = [
        dilation * (kernel - 1)
        for dilation, kernel in zip(p.dilation, p.weight.shape[2:], strict=True)
    ]
    return p.stride == (1, 1) and [2 * side for side in p.padding] == reaches


def _activation(name: str | None) -> Any:
    tf = _tensorflow()
    return {
        None: lambda x: x,
        "relu": tf.nn.relu,
        "relu6": tf.nn.relu6,
        "silu": tf.nn.silu,
        "hardswish": lambda x: x * tf.nn.relu6(x + 3) / 6,
        "sigmoid": tf.sigmoid,
        "leaky_relu": lambda x: tf.nn.leaky_relu(x, 0.01),
    }[name]


def nms(problem: Nms) -> Contender:
    """Mirrored boxes: it wants (y1, x1, y2, x2), and the IoU of (x1, y1, x2, y2) is the same."""
    p = problem
    tf = _tensorflow()
    boxes, scores = _constant(p.boxes), _constant(p.scores)
    most = len(p.boxes)

    def call(boxes: Any, scores: Any) -> Any:
        return tf.image.non_max_suppression(boxes, scores, most, p.iou_threshold)

    run = tf.function(call, autograph=False)
    return Contender(
        lambda: run(boxes, scores),
        lambda kept: torch.from_numpy(kept.numpy()),
        note="traced before the clock",
    )


def _constant(tensor: Tensor) -> Any:
    """The same values, contiguous, in TensorFlow's memory (NumPy has no bfloat16 to share)."""
    tf = _tensorflow()
    dtype = getattr(tf, str(tensor.dtype).removeprefix("torch."))
    return tf.cast(tf.constant(tensor.float().contiguous().numpy()), dtype)


def _tensorflow() -> Any:
    """The module, with torch's number of threads.

    Raises:
        RuntimeError: TensorFlow has run already with another number of threads, which it keeps.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no banner of CPU features in the report
    import tensorflow as tf

    threading, threads = tf.config.threading, torch.get_num_threads()
    if threading.get_intra_op_parallelism_threads() != threads:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(1)
    return tf


PEER = Peer(
    "tensorflow",
    ("tensorflow-cpu",),
    {"conv2d": conv2d, "nms": nms},
    alternatives=("tensorflow",),
    unasked=lambda shape: shape.quick,  # tracing a call takes longer than timing it
)
