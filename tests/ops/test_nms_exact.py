"""nms and batched_nms answer index for index what torchvision answers, case after generated case.

Each case is drawn from a seed of its own: a layout of boxes, a kind of scores, a threshold and a
dtype, among them every degenerate one that torchvision gives a defined answer for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import cvperf
from cvperf import _C
from cvperf.backends.registry import prefer

torchvision_ops = pytest.importorskip("torchvision.ops")

CASES, BATCHED_CASES = 2000, 500
GROUPS = 20  # cases are checked in groups, so that a failure does not hide the later groups

SPECIAL_COORDINATES = torch.tensor(
    [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, 2.0, -1.0, 3e38, -3e38, 1e19, 1e-20, 1e-45]
)
SPECIAL_SCORES = torch.tensor(
    [0.0, -0.0, math.nan, -math.nan, math.inf, -math.inf, 1.0, -1.0, 1e-45, -1e-45]
)


def corners(xy: Tensor, wh: Tensor) -> Tensor:
    return torch.cat([xy, xy + wh], 1)


def uniform(n: int) -> Tensor:
    return corners(torch.rand(n, 2) * 1000, torch.rand(n, 2) * 100 + 1)


def clusters(n: int) -> Tensor:
    centres = uniform(n // 50 + 1)
    return centres[torch.randint(0, len(centres), (n,))] + torch.randn(n, 4) * 3


def integer_boxes(n: int) -> Tensor:  # many duplicates and many IoUs of exactly 1/2, 1/3, ...
    return corners(torch.randint(0, 40, (n, 2)), torch.randint(1, 9, (n, 2))).float()


def mixed_sizes(n: int) -> Tensor:
    return corners(torch.rand(n, 2) * 1000, torch.exp(torch.rand(n, 2) * 6.5))


def concentric(n: int) -> Tensor:
    half = torch.exp(torch.rand(n, 1) * 8)
    return torch.cat([-half, -half, half, half], 1)


def disjoint(n: int) -> Tensor:
    side = math.isqrt(n) + 1
    cell = torch.randperm(side * side)[:n]
    return corners(torch.stack([cell % side, cell // side], 1) * 12.0, torch.full((n, 2), 10.0))


def slivers(n: int) -> Tensor:
    return corners(torch.rand(n, 2) * 50, torch.rand(n, 2) * torch.tensor([100.0, 0.5]) + 0.1)


def intervals_in_thirds(n: int) -> Tensor:  # IoUs a rounding error away from simple fractions
    left, width = torch.randint(0, 64, (n, 1)), torch.randint(1, 33, (n, 1))
    bottom, top = torch.zeros(n, 1), torch.full((n, 1), 3.0)
    return torch.cat([left, bottom, left + width, top], 1) / 3


LAYOUTS: dict[str, Callable[[int], Tensor]] = {
    "uniform": uniform,
    "crowded": lambda n: uniform(n) * torch.tensor([0.2, 0.2, 0.2, 0.2]),
    "clusters": clusters,
    "integer boxes": integer_boxes,
    "mixed sizes": mixed_sizes,
    "concentric": concentric,
    "disjoint": disjoint,
    "all overlapping": lambda n: torch.tensor([0.0, 0.0, 100.0, 100.0]) + torch.rand(n, 4) * 4,
    "slivers": slivers,
    "thirds": intervals_in_thirds,
    "reversed": lambda n: torch.randn(n, 4) * 10,
    "zero area": lambda n: torch.randint(0, 8, (n, 4)).float(),
    "some special": lambda n: torch.where(
        torch.rand(n, 4) < 0.1, SPECIAL_COORDINATES[torch.randint(0, 13, (n, 4))], uniform(n)
    ),
    "all special": lambda n: SPECIAL_COORDINATES[torch.randint(0, 13, (n, 4))],
    "huge": lambda n: uniform(n) * 1e17,
    "area underflows": lambda n: uniform(n) * 1e-22,
    "far from the origin": lambda n: corners(
        torch.rand(n, 2) * 50 + 1.6e7, torch.rand(n, 2) * 20 + 1
    ),
    "sixty octaves": lambda n: uniform(n) * torch.exp2(torch.randint(-60, 60, (n, 1)).float()),
}
SCORES: dict[str, Callable[[int], Tensor]] = {
    "distinct": lambda n: (torch.randperm(n) + 1) / (n + 1),
    "any": torch.rand,
    "ties": lambda n: torch.randint(0, 5, (n,)) / 5,
    "equal": lambda n: torch.full((n,), 0.5),
    "special": lambda n: SPECIAL_SCORES[torch.randint(0, 10, (n,))],
}
THRESHOLDS = [
    *(-math.inf, -1e300, -1.0, -0.5, -1e-60, -0.0, 0.0, 1e-60, 1e-45, 1e-31, 0.01, 0.05, 0.1),
    *(0.2, 0.25, 0.3, 1 / 3, 0.4, 0.5, 0.5 + 1e-10, 0.5 - 1e-10, 0.6, 2 / 3, 0.7, 0.75, 0.9),
    *(0.99, 1 - 1e-9, 1.0, 1.5, 1e300, math.inf),
]
SIZES = [0, 1, 2, 3, 7, 8, 9, 16, 31, 32, 33, 64, 65, 100, 257, 520]
CLASSES: dict[str, Callable[[int], Tensor]] = {
    "3 classes": lambda n: torch.randint(0, 3, (n,)),
    "90 classes": lambda n: torch.randint(0, 90, (n,)),
    "one class": lambda n: torch.full((n,), -7),
    "each its own": torch.randperm,
    "64-bit ids": lambda n: torch.tensor([-(2**63), -1, 0, 2**63 - 1])[torch.randint(0, 4, (n,))],
}


class Case:
    """One drawn input; str() tells how to draw it again."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        torch.manual_seed(seed)
        n = draw.choice(SIZES) if draw.random() < 0.7 else draw.randint(0, 2000)
        dtype = draw.choice([torch.float32, torch.float64])
        layout = draw.choice(list(LAYOUTS))
        scores = draw.choice(list(SCORES))
        classes = draw.choice(list(CLASSES))
        self.threshold = draw.choice(THRESHOLDS) if draw.random() < 0.7 else draw.random()
        self.boxes = LAYOUTS[layout](n).to(dtype)
        if dtype == torch.float64 and draw.random() < 0.5:  # not representable in float32
            self.boxes *= 1 + torch.rand(n, 4, dtype=dtype) * 1e-9
        self.scores = SCORES[scores](n).to(dtype)
        self.classes = CLASSES[classes](n)
        self.name = (
            f"case {seed}: {n} boxes ({layout}), {scores} scores, {classes}, {dtype}, "
            f"threshold {self.threshold!r}"
        )

    def __str__(self) -> str:
        return self.name


def assert_same(got: Tensor, expected: Tensor, case: Case, what: str) -> None:
    if not torch.equal(got, expected):
        common = min(len(got), len(expected))
        differing = (got[:common] != expected[:common]).nonzero()
        at = int(differing[0]) if len(differing) else common
        raise AssertionError(
            f"{what}, {case}: kept {len(got)} boxes, expected {len(expected)}; from position {at}: "
            f"{got[at : at + 5].tolist()}, expected {expected[at : at + 5].tolist()}"
        )


def on_each_isa(op: Callable[..., Tensor], *args: Tensor | float) -> list[tuple[str, Tensor]]:
    """The answers of every instruction set. One run of torchvision, the slow part, serves all."""
    before = _C.isa()
    answers = []
    try:
        for name in _C.available_isas():
            _C.select_isa(name)
            answers.append((name, op(*args)))
    finally:
        _C.select_isa(before)
    return answers


def merged_classes(case: Case) -> Tensor:
    """torchvision's nms of each class, merged by descending score, ties by index."""
    kept = torch.zeros(len(case.scores), dtype=torch.bool)
    for c in torch.unique(case.classes):
        (members,) = torch.where(case.classes == c)
        chosen = torchvision_ops.nms(case.boxes[members], case.scores[members], case.threshold)
        kept[members[chosen]] = True
    (indices,) = torch.where(kept)
    return indices[case.scores[indices].sort(descending=True, stable=True).indices]


@pytest.mark.parametrize("group", range(GROUPS))
def test_nms_is_torchvisions_on_generated_cases(group: int) -> None:
    for seed in range(group, CASES, GROUPS):
        case = Case(seed)
        expected = torchvision_ops.nms(case.boxes, case.scores, case.threshold)
        for isa, kept in on_each_isa(cvperf.ops.nms, case.boxes, case.scores, case.threshold):
            assert_same(kept, expected, case, isa)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_compared_in_float32(dtype: torch.dtype) -> None:
    for seed in range(10_000, 10_200):
        case = Case(seed)
        boxes, scores = case.boxes.to(dtype), case.scores.to(dtype)
        expected = torchvision_ops.nms(boxes.float(), scores.float(), case.threshold)
        for isa, kept in on_each_isa(cvperf.ops.nms, boxes, scores, case.threshold):
            assert_same(kept, expected, case, f"{dtype}, {isa}")


@pytest.mark.parametrize("group", range(GROUPS))
def test_batched_nms_is_nms_of_each_class_merged_by_score(group: int) -> None:
    for seed in range(20_000 + group, 20_000 + BATCHED_CASES, GROUPS):
        case = Case(seed)
        expected = merged_classes(case)
        if len(torch.unique(case.scores)) == len(case.scores) and not case.scores.isnan().any():
            # torchvision merges classes by a sort that is not stable: comparable without ties only.
            vanilla = torchvision_ops.boxes._batched_nms_vanilla(
                case.boxes, case.scores, case.classes, case.threshold
            )
            assert_same(vanilla, expected, case, "the expectation itself")
        for isa, kept in on_each_isa(
            cvperf.ops.batched_nms, case.boxes, case.scores, case.classes, case.threshold
        ):
            assert_same(kept, expected, case, isa)


def long_and_near(n: int) -> Tensor:  # a cell of the grid holds them all
    return corners(torch.rand(n, 2) * torch.tensor([n / 1000, n * 0.4]), torch.tensor([400.0, 0.3]))


LARGE: dict[str, Callable[[int], Tensor]] = {
    **{name: LAYOUTS[name] for name in ("uniform", "crowded", "mixed sizes", "slivers")},
    **{name: LAYOUTS[name] for name in ("disjoint", "sixty octaves", "clusters")},
    "long and near": long_and_near,
    "half long and near": lambda n: torch.cat([long_and_near(n // 2), uniform(n - n // 2)]),
    "one giant": lambda n: torch.cat([uniform(n - 1), torch.tensor([[-1e5, -1e5, 1e5, 1e5]])]),
    "one without a place": lambda n: torch.cat(
        [uniform(n - 1), torch.tensor([[9e4, 0, 1e9, 1.0]])]
    ),
}
"""Layouts of thousands of boxes: those that the grid is for, and those where it fails."""


@pytest.mark.parametrize("layout", LARGE)
@pytest.mark.parametrize("threshold", [0.01, 0.06, 0.3, 0.5, 0.7, 0.95])
def test_neither_pruning_nor_threads_change_anything(layout: str, threshold: float) -> None:
    case = Case(0)
    torch.manual_seed(1)
    case.boxes, case.scores, case.threshold = LARGE[layout](5000), torch.rand(5000), threshold
    case.name = f"5000 boxes ({layout}), threshold {threshold}"
    expected = torchvision_ops.nms(case.boxes, case.scores, threshold)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for isa, kept in on_each_isa(cvperf.ops.nms, case.boxes, case.scores, threshold):
                assert_same(kept, expected, case, f"{isa}, {count} threads")
    finally:
        torch.set_num_threads(threads)
    with prefer("cpu sweep"):
        assert_same(cvperf.ops.nms(case.boxes, case.scores, threshold), expected, case, "sweep")


def test_the_large_layouts_reach_the_grid_and_the_team() -> None:
    # 384 kept boxes start a grid on AVX-512, the most of all; some 1,150 wake the other threads.
    torch.manual_seed(1)
    kept = {
        name: len(cvperf.ops.nms(layout(5000), torch.rand(5000), 0.5))
        for name, layout in LARGE.items()
    }
    assert min(kept.values()) > 400, kept
    assert [name for name, count in kept.items() if count < 1500] == ["clusters"], kept


def test_the_answer_does_not_depend_on_the_number_of_threads(isa: str) -> None:
    boxes, scores, classes = uniform(20_000), torch.rand(20_000), torch.randint(0, 90, (20_000,))
    threads = torch.get_num_threads()
    answers = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            answers.append(cvperf.ops.batched_nms(boxes, scores, classes, 0.5))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(answers[0], answers[1]), f"1 and 2 threads differ on {isa}"
    assert torch.equal(answers[0], answers[2]), f"1 and 3 threads differ on {isa}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_order_is_that_of_a_stable_sort_for_any_number_of_threads(dtype: torch.dtype) -> None:
    # Runs of 8,192 are worth a thread: 60,000 make six. Nothing is suppressed above an IoU of 1.
    ties = torch.randint(0, 5_000, (60_000,)) / 5_000 - 0.3
    ties[::1_000], ties[7::1_000], ties[8::1_000] = float("nan"), -0.0, 0.0
    boxes, one_class = torch.zeros(60_000, 4, dtype=dtype), torch.zeros(60_000, dtype=torch.int64)
    threads = torch.get_num_threads()
    try:
        for name, scores in (("ties", ties), ("sorted", ties.sort()[0]), ("equal", 0 * ties + 0.5)):
            scores = scores.to(dtype)
            expected = scores.sort(descending=True, stable=True)[1]
            for count in range(1, 8):
                torch.set_num_threads(count)
                order = cvperf.ops.batched_nms(boxes, scores, one_class, 1.0)
                assert torch.equal(order, expected), f"{name}, {count} threads"
    finally:
        torch.set_num_threads(threads)
