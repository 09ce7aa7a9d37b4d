"""A teacher's answers in the loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvperf.errors import ArgumentError
from cvperf.train.distil import Teacher
from cvperf.train.recipe import Distil

IMAGES = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


def taught(logits, **config):
    """The loss of a student whose own is 2."""
    teacher = nn.Linear(8, 4)
    loss = Teacher(teacher, Distil(**config)).taught(torch.tensor(2.0), logits, IMAGES)
    return loss, teacher(IMAGES).detach()


def test_the_weight_mixes_both_losses():
    logits = torch.randn(6, 4)
    loss, answers = taught(logits, weight=0.25, temperature=1.0)
    distance = F.kl_div(logits.log_softmax(1), answers.softmax(1), reduction="batchmean")
    assert loss == pytest.approx(float(0.75 * 2 + 0.25 * distance), rel=1e-5)


@pytest.mark.parametrize("distance", ["kl", "euclidean"])
def test_a_student_that_answers_alike_has_no_distance(distance):
    torch.manual_seed(1)
    answers = nn.Linear(8, 4)(IMAGES).detach()
    torch.manual_seed(1)
    loss, _ = taught(answers, weight=1.0, distance=distance)
    assert float(loss) == pytest.approx(0, abs=1e-6)


def test_the_gradient_does_not_shrink_with_the_temperature():
    sizes = []
    for temperature in (4.0, 40.0):
        torch.manual_seed(2)
        logits = torch.zeros(6, 4, requires_grad=True)
        taught(logits, weight=1.0, temperature=temperature)[0].backward()
        sizes.append(float(logits.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)


def test_hard_is_cross_entropy_with_the_answers():
    logits = torch.randn(6, 4)
    loss, answers = taught(logits, weight=1.0, distance="hard")
    assert torch.equal(loss, F.cross_entropy(logits, answers.argmax(1)))


def test_the_teacher_gets_no_gradient():
    teacher = nn.Linear(8, 4)
    logits = torch.randn(6, 4, requires_grad=True)
    Teacher(teacher, Distil()).taught(torch.tensor(0.0), logits, IMAGES).backward()
    assert teacher.weight.grad is None
    assert logits.grad is not None


def test_an_unknown_distance_names_the_known_ones():
    with pytest.raises(ArgumentError, match="kl, euclidean, hard"):
        taught(torch.zeros(6, 4), distance="l3")
