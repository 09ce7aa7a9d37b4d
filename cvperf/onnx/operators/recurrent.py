"""LSTM, GRU and RNN, as recognisers of text have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf.onnx.node import Node
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Constant, TensorValue, Value

# ONNX's order of the gates -> the places of torch's gates in it.
LSTM_GATES = (0, 2, 3, 1)  # i o f c -> i f c o
GRU_GATES = (1, 0, 2)  # z r h -> r z h
DEFAULTS = {
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "RNN": ["Tanh"],
}


@operator("LSTM")
def lstm(node: Node) -> Sequence[Value]:
    _refuse_options(node)
    if node.has(7):
        raise node.unsupported("peepholes (input 7); torch's LSTM has none")
    hidden, cell = node.optional(5), node.optional(6)
    return node.builder.tensors(
        3, run_lstm, node.tensor(0), *_weights(node, LSTM_GATES), hidden, cell, **_options(node)
    )


@operator("GRU")
def gru(node: Node) -> Sequence[Value]:
    _refuse_options(node)
    reset_after = bool(node.attribute("linear_before_reset", 0))
    function = run_gru if reset_after else run_gru_reset_before
    return node.builder.tensors(
        2,
        function,
        node.tensor(0),
        *_weights(node, GRU_GATES),
        node.optional(5),
        **_options(node),
    )


@operator("RNN")
def rnn(node: Node) -> Sequence[Value]:
    _refuse_options(node)
    return node.builder.tensors(
        2, run_rnn, node.tensor(0), *_weights(node, (0,)), node.optional(5), **_options(node)
    )


def _refuse_options(node: Node) -> None:
    directions = 2 if node.attribute("direction", "forward") == "bidirectional" else 1
    activations = node.attribute("activations", None)
    if activations and list(activations) != DEFAULTS[node.operator] * directions:
        raise node.unsupported(f"activations {activations}; torch's are {DEFAULTS[node.operator]}")
    if "clip" in node.attributes:
        raise node.unsupported("clip; torch does not clip cells")
    if node.attribute("input_forget", 0):
        raise node.unsupported("input_forget; torch has gates of their own for both")
    if node.has(4):
        raise node.unsupported("sequence_lens (input 4); pass sequences of one length")


def _options(node: Node) -> dict[str, Any]:
    return {
        "direction": node.attribute("direction", "forward"),
        "batch_first": bool(node.attribute("layout", 0)),
    }


def _weights(
    node: Node, gates: tuple[int, ...]
) -> tuple[TensorValue, TensorValue, TensorValue | None]:
    """Weights [D, gates * H, ...] and biases [D, 2 * gates * H] with torch's order of the gates."""
    sorted_weights = [_sorted(node, index, gates, 1) for index in (1, 2)]
    bias = _sorted(node, 3, gates, 2) if node.has(3) else None
    return sorted_weights[0], sorted_weights[1], bias


def _sorted(node: Node, index: int, gates: tuple[int, ...], sets: int) -> TensorValue:
    weight = node.tensor(index)
    result = node.emit(with_gates, weight, gates, sets, rank=weight.rank)
    if isinstance(result, Constant) and isinstance(weight, Constant):
        result.name, result.trainable = weight.name, True
    return result


def with_gates(weight: Tensor, gates: tuple[int, ...], sets: int) -> Tensor:
    """Reorder the gates along axis 1, which holds all of them ``sets`` times."""
    directions, rows, *rest = weight.shape
    parts = weight.reshape(directions, sets, len(gates), rows // (sets * len(gates)), *rest)
    return parts[:, :, list(gates)].reshape(weight.shape)


def _flat(weight: Tensor, recurrence: Tensor, bias: Tensor | None) -> list[Tensor]:
    """The weights as torch lists them: for each direction, two weights and two biases."""
    flat: list[Tensor] = []
    for direction in range(weight.shape[0]):
        flat += [weight[direction], recurrence[direction]]
        if bias is not None:
            flat += list(bias[direction].chunk(2))
    return flat


def _start(data: Tensor, recurrence: Tensor, state: Tensor | None) -> Tensor:
    """The first state [D, N, H], zeros if none is given."""
    if state is not None:
        return state
    return data.new_zeros(recurrence.shape[0], data.shape[1], recurrence.shape[2])


def _entering(
    data: Tensor, states: Sequence[Tensor | None], direction: str, batch_first: bool
) -> tuple[Tensor, list[Tensor | None]]:
    """Time first, and in the order in which it is read."""
    if batch_first:
        data = data.transpose(0, 1)
        states = [None if state is None else state.transpose(0, 1) for state in states]
    return (data.flip(0) if direction == "reverse" else data), list(states)


def _leaving(
    output: Tensor, states: Sequence[Tensor], direction: str, batch_first: bool
) -> tuple[Tensor, ...]:
    """Output [T, N, D * H] -> [T, D, N, H], or [N, T, D, H] with the batch first."""
    steps, batch, _ = output.shape
    output = output.flip(0) if direction == "reverse" else output
    output = output.reshape(steps, batch, states[0].shape[0], states[0].shape[2])
    if batch_first:
        return (output.transpose(0, 1), *(state.transpose(0, 1) for state in states))
    return (output.transpose(1, 2), *states)


def run_lstm(
    data: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None,
    hidden: Tensor | None,
    cell: Tensor | None,
    direction: str,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    data, states = _entering(data, (hidden, cell), direction, batch_first)
    start = [_start(data, recurrence, state) for state in states]
    flat, both = _flat(weight, recurrence, bias), direction == "bidirectional"
    result = torch.lstm(data, start, flat, bias is not None, 1, 0.0, False, both, False)
    return _leaving(result[0], result[1:], direction, batch_first)


def _run_one_state(
    kernel: Callable[..., tuple[Tensor, Tensor]],
    data: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None,
    hidden: Tensor | None,
    direction: str,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """One of torch's recurrent layers that carry one state."""
    data, (state,) = _entering(data, (hidden,), direction, batch_first)
    start, flat = _start(data, recurrence, state), _flat(weight, recurrence, bias)
    both = direction == "bidirectional"
    output, last = kernel(data, start, flat, bias is not None, 1, 0.0, False, both, False)
    return _leaving(output, (last,), direction, batch_first)


def run_gru(
    data: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None,
    hidden: Tensor | None,
    direction: str,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    return _run_one_state(torch.gru, data, weight, recurrence, bias, hidden, direction, batch_first)


def run_rnn(
    data: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None,
    hidden: Tensor | None,
    direction: str,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    return _run_one_state(
        torch.rnn_tanh, data, weight, recurrence, bias, hidden, direction, batch_first
    )


def run_gru_reset_before(
    data: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None,
    hidden: Tensor | None,
    direction: str,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """The reset gate acts before the product with the recurrent weight, which torch's GRU lacks."""
    data, (state,) = _entering(data, (hidden,), direction, batch_first)
    start = _start(data, recurrence, state)
    outputs, lasts = [], []
    for index in range(weight.shape[0]):
        steps = data.flip(0) if index == 1 else data
        own = None if bias is None else bias[index]
        output = _steps_reset_before(steps, weight[index], recurrence[index], own, start[index])
        lasts.append(output[-1])
        outputs.append(output.flip(0) if index == 1 else output)
    return _leaving(torch.cat(outputs, 2), (torch.stack(lasts),), direction, batch_first)


def _steps_reset_before(
    data: Tensor, weight: Tensor, recurrence: Tensor, bias: Tensor | None, state: Tensor
) -> Tensor:
    """One direction: [T, N, I] -> [T, N, H]; the gates are reset, update, new."""
    size = state.shape[-1]
    given, kept = (None, None) if bias is None else bias.chunk(2)
    inputs = torch.nn.functional.linear(data, weight, given)
    gates_weight, new_weight = recurrence[: 2 * size], recurrence[2 * size :]
    gates_bias, new_bias = (None, None) if kept is None else (kept[: 2 * size], kept[2 * size :])
    outputs = []
    for step in inputs.unbind(0):
        gates = step[:, : 2 * size] + torch.nn.functional.linear(state, gates_weight, gates_bias)
        reset, update = torch.sigmoid(gates).chunk(2, 1)
        new = torch.nn.functional.linear(reset * state, new_weight, new_bias)
        new = torch.tanh(step[:, 2 * size :] + new)
        state = (1 - update) * new + update * state
        outputs.append(state)
    return torch.stack(outputs)
