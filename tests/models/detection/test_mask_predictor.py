"""The mask of one class is that of all classes, without the others."""

import torch

from cvperf.models.detection.mask_rcnn import MaskPredictor


def test_logits_and_gradients_are_those_of_a_transposed_convolution():
    predictor = MaskPredictor(6, 4).double()
    maps = torch.rand(5, 6, 3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 3, 1, 2, 3])
    everything = predictor.mask_fcn_logits(predictor.conv5_mask(maps).relu())
    wanted, found = everything[torch.arange(5), labels], predictor(maps, labels)
    torch.testing.assert_close(found, wanted)
    weights = [maps, *predictor.parameters()]
    toward = torch.rand_like(wanted)
    expected = torch.autograd.grad(wanted, weights, toward)
    for gradient, each in zip(torch.autograd.grad(found, weights, toward), expected, strict=True):
        torch.testing.assert_close(gradient, each)


def test_no_boxes_have_no_masks():
    none = MaskPredictor(6, 4)(torch.zeros(0, 6, 3, 4), torch.zeros(0, dtype=torch.int64))
    assert none.shape == (0, 6, 8)
