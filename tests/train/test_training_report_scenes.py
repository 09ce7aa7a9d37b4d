"""Pictures of what a detector found, in the report of its training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cvperf.data import Batch
from cvperf.train.detection.gallery import Gallery, scene
from cvperf.train.report.scenes import Mark, Scene, kinds, runs
from tests.train.made_up_run import written

CLASSES = ("cat", "<b>dog")
CAT, DOG, FAR = [1.0, 2, 11, 12], [20.0, 4, 40, 24], [0.0, 30, 9, 40]


def objects(boxes: list[list[float]], labels: list[int], scores: list[float] | None = None):
    one = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.tensor(labels).long()}
    return one if scores is None else {**one, "scores": torch.tensor(scores)}


def picture(value: int = 9) -> Tensor:
    return torch.full((3, 48, 64), value, dtype=torch.uint8)


def shown(found: dict[str, Tensor], truth: dict[str, Tensor] | None) -> list[tuple[str, str]]:
    """Kind and text of each mark."""
    return [(mark.kind, mark.text) for mark in scene(picture(), found, CLASSES, truth).marks]


def test_answers_are_right_or_false_and_objects_seen_or_missed() -> None:
    found = objects([CAT, FAR, DOG], [0, 0, 0], [0.9, 0.8, 0.7])
    marks = shown(found, objects([DOG, CAT], [1, 0]))
    assert marks == [
        ("missed", "<b>dog"),
        ("seen", "cat"),
        ("right", "cat 0.90"),
        ("false", "cat 0.80"),
        ("false", "cat 0.70"),  # where the dog is, but of another class
    ]


def test_answers_with_a_low_score_are_not_shown() -> None:
    assert shown(objects([CAT], [0], [0.4]), objects([CAT], [0])) == [("missed", "cat")]


def test_where_nobody_knows_what_is_there_answers_are_only_found() -> None:
    assert shown(objects([CAT], [0], [0.6]), None) == [("found", "cat 0.60")]


def test_an_answer_has_its_mask() -> None:
    masks = torch.zeros(1, 1, 48, 64)
    masks[0, 0, 2, 3:6] = 0.7
    masks[0, 0, 3, 4] = 0.4
    (mark,) = scene(picture(), objects([CAT], [0], [0.6]) | {"masks": masks}, CLASSES).marks
    assert mark.path == "M3 2h3v1h-3z"


def test_a_mask_is_the_runs_of_its_rows() -> None:
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 1, 1]]).bool()
    assert runs(mask) == "M0 0h1v1h-1zM2 0h2v1h-2zM1 2h3v1h-3z"
    assert runs(torch.zeros(3, 0, dtype=torch.bool)) == ""


def test_the_gallery_keeps_the_first_pictures_and_the_worst() -> None:
    gallery = Gallery(CLASSES, first=1, worst=2)
    mistakes = [0, 1, 3, 0, 3, 2]
    for number, count in enumerate(mistakes):
        found = objects([FAR] * count, [0] * count, [0.9] * count)
        gallery([found], Batch(picture(number)[None], [objects([], [])], []))
    kept = gallery.scenes()
    assert [(one.mistakes, int(one.image[0, 0, 0])) for one in kept] == [(3, 2), (3, 4), (0, 0)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = objects([CAT, FAR], [0, 1], [0.9, 0.8])
    known = scene(picture(), found, CLASSES, objects([DOG, CAT], [1, 0]))
    crowd = Scene(picture(), [Mark("false", (1, 1, 5, 5), "cat 0.5")] * 13)
    return written(
        tmp_path_factory.mktemp("run"), pictures=[known, crowd], mistakes=(), confusion=None
    )


def test_the_page_marks_them(page: str) -> None:
    assert "Worst errors" not in page
    assert "1 right, 1 false, 1 missed" in page
    assert "13 false" in page
    boxes = re.findall(r'<g class="(\w+)"><title>([^<]*)</title>\s*<rect x="([\d.]+)"', page)
    assert boxes[:4] == [
        ("missed", "&lt;b&gt;dog (missed)", "20.0"),
        ("seen", "cat (seen)", "1.0"),
        ("right", "cat 0.90 (right)", "1.0"),
        ("false", "&lt;b&gt;dog 0.80 (false)", "0.0"),
    ]
    assert page.count('<image href="data:image/png;base64,') == 2


def test_names_stand_beside_few_boxes_only(page: str) -> None:
    _, few, many = page.split("<image ")
    assert few.count("<text ") == 3  # what was seen has the name of its answer
    assert many.count("<text ") == 0


def test_switches_are_those_of_the_marks_that_are_there(page: str) -> None:
    switches = re.findall(r'type="checkbox" value="(\w+)"', page)
    assert switches == ["right", "false", "missed", "seen", "names"]
    assert kinds([]) == {}


def test_masks_have_a_switch_where_there_are_any(tmp_path: Path) -> None:
    mark = Mark("found", (1, 1, 5, 5), "cat 0.5", torch.ones(48, 64, dtype=torch.bool))
    page = written(tmp_path, pictures=[Scene(picture(), [mark])])
    assert 'value="masks"' in page
    assert page.count('<path d="M0 0h64v1h-64z') == 1


def test_a_picture_without_anything_is_shown_too(tmp_path: Path) -> None:
    assert "nothing found, nothing there" in written(tmp_path, pictures=[Scene(picture(), [])])
