"""Classifiers by name."""

import pytest
import torch

from cvperf.errors import ArgumentError
from cvperf.models import create_model, known_models


@pytest.mark.parametrize(
    ("name", "channels", "side"),
    [
        ("lenet", 1, 28),
        ("lenet", 3, 28),
        ("small_cnn", 1, 28),
        ("small_cnn", 3, 7),
        ("resnet18", 1, 64),
        ("squeezenet1_1", 3, 64),
        ("timm/mobilenetv3_small_050", 1, 64),
    ],
)
def test_a_name_gives_a_network_for_so_many_classes_and_channels(name, channels, side):
    model = create_model(name, 7, channels=channels)
    assert model(torch.rand(2, channels, side, side)).shape == (2, 7)


def test_lenet_has_the_published_number_of_parameters():
    count = sum(
        parameter.numel() for parameter in create_model("lenet", 10, channels=1).parameters()
    )
    assert count == 61_706


def test_options_go_to_the_network():
    model = create_model("small_cnn", 10, channels=1, widths=(4, 8), dropout=0.5)
    assert model.head.in_features == 8
    assert model.dropout.p == 0.5


def test_layers_in_a_list_of_their_own_see_the_image_at_one_size():
    model = create_model("small_cnn", 3, channels=1, widths=[4, [6, 8]], stride=2)
    convs = [layer for layer in model.features if isinstance(layer, torch.nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [4, 6, 8]
    assert [conv.kernel_size for conv in convs] == [(5, 5), (3, 3), (3, 3)]
    assert model.features(torch.rand(2, 1, 16, 12)).shape == (2, 8, 4, 3)


def test_an_unknown_option_names_the_model():
    with pytest.raises(ArgumentError, match=r"'lenet'.*depth"):
        create_model("lenet", 10, depth=3)


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet81", "resnet18"), ("lenett", "lenet"), ("timm/resnet18x", "timm/resnet18")],
)
def test_an_unknown_name_tells_what_is_near(name, near):
    with pytest.raises(ArgumentError, match=near):
        create_model(name, 10)


def test_known_models_are_ours_torchvisions_and_timms():
    known = known_models()
    assert {"lenet", "resnet50", "timm/resnet50"} <= set(known)
    assert "maskrcnn_resnet50_fpn" not in known


def test_a_small_thing_counts_wherever_it_is_by_its_best_place():
    model = create_model("small_cnn", 3, channels=1, widths=[4, 8], pool="places").eval()
    whole = torch.rand(2, 1, 12, 12)
    places = model.head(model.features(whole).permute(0, 2, 3, 1)).flatten(1, 2)
    expected = places.exp().mean(1).log()
    torch.testing.assert_close(model(whole), expected)
    with pytest.raises(ArgumentError, match='pool must be "mean" or "places"'):
        create_model("small_cnn", 3, pool="max")
