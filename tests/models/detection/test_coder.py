"""Boxes relative to anchors, there and back, as torchvision codes them."""

import torch
from torchvision.models.detection import _utils

from cvperf.models.detection.coder import BoxCoder

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def boxes(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2) * 100
    return torch.cat([corner, corner + 5 + torch.rand(count, 2) * 50], dim=1)


def test_what_is_encoded_decodes_to_the_box():
    torch.manual_seed(0)
    wanted, anchors = boxes(50), boxes(50)
    coder = BoxCoder(WEIGHTS)
    found = coder.decode(coder.encode(wanted, anchors), anchors)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)


def test_codes_are_torchvisions():
    torch.manual_seed(1)
    ours, theirs = BoxCoder(WEIGHTS), _utils.BoxCoder(WEIGHTS)
    wanted, anchors, deltas = boxes(50), boxes(50), torch.randn(50, 3, 4) * 20
    torch.testing.assert_close(
        ours.encode(wanted, anchors), theirs.encode_single(wanted, anchors), rtol=0, atol=0
    )
    decoded = theirs.decode_single(deltas.flatten(1), anchors).view(50, 3, 4)
    torch.testing.assert_close(ours.decode(deltas, anchors[:, None]), decoded, rtol=0, atol=0)


def test_no_box_grows_without_bound():
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    decoded = BoxCoder().decode(torch.tensor([[0.0, 0.0, 1e9, 1e9]]), anchor)
    torch.testing.assert_close(decoded[:, 2:] - decoded[:, :2], torch.tensor([[1000.0, 1000.0]]))
