"""A narrow network out of a wide one."""

import pytest
import torch

from cvperf.errors import ArgumentError
from cvperf.models import create_model, narrow
from cvperf.models.narrow import strongest


def small(*widths, classes=5, channels=2):
    torch.manual_seed(len(widths) + sum(widths))
    model = create_model("small_cnn", classes, channels=channels, widths=widths)
    for module in model.modules():  # norms as after training: no two alike
        if isinstance(module, torch.nn.BatchNorm2d):
            for value in (module.weight, module.running_mean, module.running_var):
                torch.nn.init.uniform_(value, 0.5, 1.5)
    return model.eval()


IMAGES = torch.rand(3, 2, 12, 12, generator=torch.Generator().manual_seed(0))


def test_the_filters_of_largest_norm_are_kept_in_order():
    filters = torch.tensor([3.0, -5.0, 1.0, 4.0]).view(4, 1, 1, 1).expand(4, 2, 3, 3)
    assert strongest(filters, 2).tolist() == [1, 3]


def test_as_wide_as_the_wide_one_it_answers_alike():
    wide, model = small(6, 8), create_model("small_cnn", 5, channels=2, widths=(6, 8)).eval()
    narrow(wide, model)
    assert torch.equal(model(IMAGES), wide(IMAGES))


def test_channels_that_say_nothing_are_left_out_without_a_change_of_the_answer():
    wide = small(6, 8)
    conv, norm = wide.features[0], wide.features[1]
    with torch.no_grad():
        conv.weight[[1, 4]] = 0
        norm.bias[[1, 4]] = -10  # below zero after the norm: ReLU says 0
    model = create_model("small_cnn", 5, channels=2, widths=(4, 8)).eval()
    narrow(wide, model)
    torch.testing.assert_close(model(IMAGES), wide(IMAGES))


def test_the_head_keeps_the_columns_of_the_last_channels():
    wide, model = small(6, 8), small(6, 3)
    kept = strongest(wide.features[4].weight, 3)
    narrow(wide, model)
    assert torch.equal(model.head.weight, wide.head.weight[:, kept])
    assert torch.equal(model.features[5].running_var, wide.features[5].running_var[kept])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (small(7, 8), r"\[6, 8\].*\[7, 8\]"),
        (small(6), r"\[6, 8\].*\[6\]"),
        (small(4, 4, classes=3), "2 channels to 5 classes, the narrow one 2 to 3"),
        (small(4, 4, channels=1), "the narrow one 1 to 5"),
        (create_model("lenet", 5), "SmallCNN and LeNet"),
    ],
)
def test_what_does_not_fit_is_refused(model, message):
    with pytest.raises(ArgumentError, match=message):
        narrow(small(6, 8), model)
