"""R-CNN, Fast R-CNN, Faster R-CNN, Mask R-CNN and PANet: what they share."""

import pickle

import pytest
import torch
from torchvision.ops import box_iou

from cvperf.errors import ArgumentError
from cvperf.models.detection import create_detector
from tests.models.detection.scenes import PROPOSALS, nothing, scene

pytestmark = pytest.mark.usefixtures("one_thread")

GIVEN = ("rcnn", "fast-rcnn")
MASKED = ("mask-rcnn", "panet")
NAMES = (*GIVEN, "faster-rcnn", *MASKED)
LOSSES = {"loss_classifier", "loss_box_reg"}
RPN_LOSSES = {"loss_objectness", "loss_rpn_box_reg"}


def proposals(name: str, images: int) -> dict[str, list[torch.Tensor]]:
    """What the call needs beside images and targets."""
    return {"proposals": [PROPOSALS] * images} if name in GIVEN else {}


def made(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return create_detector(name, 3, **options)


def learn(model: torch.nn.Module, name: str, steps: int) -> torch.nn.Module:
    image, target = scene()
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    for _ in range(steps):
        losses = model([image], [target], **proposals(name, 1))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("name", NAMES)
def test_training_gives_the_losses_of_each_head(name):
    pairs = scene(), nothing()
    images, targets = zip(*pairs, strict=True)
    losses = made(name)(images, targets, **proposals(name, 2))
    own = set() if name in GIVEN else RPN_LOSSES
    masks = {"loss_mask"} if name in MASKED else set()
    assert losses.keys() == LOSSES | own | masks
    assert all(loss > 0 for loss in losses.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_step_without_objects_reaches_every_parameter_with_numbers(name):
    model = made(name)
    image, target = nothing()
    losses = model([image, image], [target, target], **proposals(name, 2))
    sum(losses.values()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_trains_to_the_same_bits(name):
    first, second = (learn(made(name), name, steps=2).state_dict() for _ in range(2))
    for key in first:
        assert torch.equal(first[key], second[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_detections_have_the_shapes_that_were_promised(name):
    model = made(name).eval()
    model.roi_heads.score_threshold = 0.0
    images = [torch.rand(3, 96, 96), torch.rand(3, 70, 110)]
    with torch.no_grad():
        found = model(images, **proposals(name, 2))
    for image, each in zip(images, found, strict=True):
        count, (height, width) = len(each["boxes"]), image.shape[1:]
        assert 0 < count <= 100
        assert each["boxes"].dtype == each["scores"].dtype == torch.float32
        assert each["labels"].dtype == torch.int64
        assert each["labels"].min() >= 1
        assert each["labels"].max() <= 2
        assert (each["scores"].diff() <= 0).all()
        assert (each["boxes"] >= 0).all()
        assert (each["boxes"] <= torch.tensor([width, height, width, height])).all()
        assert ("masks" in each) == (name in MASKED)
        if name in MASKED:
            assert each["masks"].shape == (count, 1, height, width)
            assert 0 <= each["masks"].min() <= each["masks"].max() <= 1


@pytest.mark.parametrize("name", [*GIVEN, "faster-rcnn"])
def test_a_scene_learnt_by_heart_is_found(name):
    image, target = scene()
    model = learn(made(name), name, steps=40)
    with torch.no_grad():
        found = model([image], **proposals(name, 1))[0]
    for label, box in zip(target["labels"], target["boxes"], strict=True):
        best = found["boxes"][found["labels"] == label][:1]
        assert box_iou(best, box[None]).item() > 0.6


@pytest.mark.parametrize("name", MASKED)
def test_masks_of_a_scene_learnt_by_heart_cover_it(name):
    image, target = scene()
    model = learn(made(name, roi_heads={"samples": 32}), name, steps=60)
    with torch.no_grad():
        found = model([image])[0]
    for label, mask in zip(target["labels"], target["masks"], strict=True):
        best = found["masks"][found["labels"] == label][0, 0] > 0.5
        assert (best & mask).sum() / (best | mask).sum() > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_as_one_tensor_is_a_list_of_images(name):
    model = made(name).eval()
    model.roi_heads.score_threshold = 0.0
    batch = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        one, other = model(batch, **proposals(name, 2)), model([*batch], **proposals(name, 2))
    for a, b in zip(one, other, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", NAMES)
def test_in_bfloat16_boxes_and_losses_stay_float32(name):
    model, (image, target) = made(name), scene()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model([image], [target], **proposals(name, 1))
    sum(losses.values()).backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    model.eval().roi_heads.score_threshold = 0.0
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        (found,) = model([image], **proposals(name, 1))
    assert all(found[key].dtype == torch.float32 for key in found if key != "labels")


@pytest.mark.parametrize("name", NAMES)
def test_a_pickled_model_answers_alike(name):
    model = made(name).eval()
    model.roi_heads.score_threshold = 0.0
    image = scene()[0]
    copy = pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        one, other = (each([image], **proposals(name, 1))[0] for each in (model, copy))
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_torchvision_may_be_the_backbone(name):
    options = (
        {"side": 32}
        if name == "rcnn"
        else {"resize": {"min_size": 64}, "roi_heads": {"max_detections": 5}}
    )
    model = create_detector(name, 3, backbone="resnet18", **options).eval()
    with torch.no_grad():
        (found,) = model([scene()[0]], **proposals(name, 1))
    assert found["boxes"].shape[1] == 4


@pytest.mark.parametrize("name", ["faster-rcnn", "mask-rcnn"])
def test_version_2_has_batch_norm_and_trains(name):
    model, (image, target) = made(name, version=2), scene()
    losses = model([image], [target])
    sum(losses.values()).backward()
    assert isinstance(model.roi_heads.box_head[0][1], torch.nn.BatchNorm2d)
    assert all(each.grad.isfinite().all() for each in model.parameters())


def test_resnext_carries_mask_rcnn():
    model = create_detector("mask-rcnn", 3, backbone="resnext50_32x4d", norm="frozen")
    names = dict(model.named_modules())
    assert names["backbone.body.layer1.0.conv2"].groups == 32
    assert type(names["backbone.body.bn1"]).__name__ == "FrozenBatchNorm2d"


def test_stages_that_are_not_to_learn_have_no_gradient():
    model = create_detector("faster-rcnn", 3, backbone="resnet18", trainable_layers=2)
    frozen = {
        key.split(".")[2]
        for key, parameter in model.backbone.named_parameters(prefix="backbone")
        if not parameter.requires_grad
    }
    assert frozen == {"conv1", "bn1", "layer1", "layer2"}


def test_unknown_names_and_options_are_refused():
    with pytest.raises(ArgumentError, match="unknown detector 'fastrcnn'; did you mean"):
        create_detector("fastrcnn", 3)
    with pytest.raises(ArgumentError, match="unknown backbone 'resnet5'; did you mean 'resnet50'"):
        create_detector("faster-rcnn", 3, backbone="resnet5")
    with pytest.raises(ArgumentError, match=r"detector 'panet': .*depth"):
        create_detector("panet", 3, depth=3)
    with pytest.raises(ArgumentError, match="counts the background, so it must be 2"):
        create_detector("panet", 1)


def test_proposals_that_do_not_fit_the_images_are_refused():
    model = made("fast-rcnn").eval()
    with pytest.raises(ArgumentError, match=r"for each of 1 images, got 2"):
        model([scene()[0]], proposals=[PROPOSALS] * 2)
    with pytest.raises(ArgumentError, match=r"proposals\[0\] must be float boxes\[k, 4\].*int64"):
        model([scene()[0]], proposals=[PROPOSALS.to(torch.int64)])


def test_no_proposals_and_no_objects_train_and_detect_nothing():
    model, (image, target) = made("fast-rcnn"), nothing()
    none = [torch.zeros(0, 4)]
    losses = model([image], [target], none)
    assert all(loss == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert len(model.eval()([image], proposals=none)[0]["boxes"]) == 0
