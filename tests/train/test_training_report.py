"""The report of a training run: what is on the page, whatever the run had."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from cvperf import ArgumentError
from cvperf.train import report
from cvperf.train.report import Mistake
from cvperf.train.report.confusion import draw
from cvperf.train.report.pictures import data_url
from cvperf.train.report.tables import figure, headline
from tests.train.made_up_run import arguments, epoch, written

NAN = float("nan")


def plain(html: str) -> str:
    """The text a reader sees in tables and paragraphs."""
    return " ".join(re.sub(r"<[^>]+>", " ", html[html.index("<main>") :]).split())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("runs") / "run")


def test_the_page_has_every_part_of_the_run(page: str) -> None:
    text = plain(page)
    assert "3 epochs; best validation accuracy 0.9000 in epoch 2; final accuracy 0.9123." in text
    for title in ("loss", "accuracy", "learning rate", "Reliability"):
        assert f"<figure><b>{title}</b>" in page
    assert "recall/cat" not in text  # a figure of one class is in the table of classes
    assert "cat 10 0.7000 dog (3)" in text
    assert "dog 0" in text
    assert "conv2d 12 cpu &lt;faster&gt;" in text
    assert "a &lt;processor&gt;" in text
    assert "cvperf train &#39;a &amp; b&#39;" in text


def test_names_are_escaped(page: str) -> None:
    assert "<i>" not in page
    assert page.count("&lt;i&gt;eel&lt;/i&gt;") > 5


def test_the_page_asks_the_network_for_nothing(page: str) -> None:
    assert "default-src 'none'" in page
    # Names of XML's namespaces are no addresses to load from.
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_one_epoch_without_validation(tmp_path: Path) -> None:
    html = written(tmp_path, history=[{"epoch": 1, "train": {"loss": 2.0}}])
    assert "1 epoch; best train loss 2.000 in epoch 1; final accuracy 0.9123." in plain(html)
    assert "learning rate" not in html


def test_the_headline_names_what_the_run_watched(tmp_path: Path) -> None:
    history = [epoch(1, ap=0.5, mask_ap50=0.8), epoch(2, ap=0.6, mask_ap50=0.7)]
    html = written(
        tmp_path, history=history, final={"ap": 0.4, "mask_ap50": 0.3}, watched="mask_ap50"
    )
    assert "best validation mask_ap50 0.8000 in epoch 1; final mask_ap50 0.3000." in plain(html)
    line = headline([epoch(1, noise=3.0), epoch(2, noise=2.0)], {}, "noise", highest=False)
    assert line == "2 epochs; best validation noise 2.000 in epoch 2."


def test_regression_has_no_classes(tmp_path: Path) -> None:
    html = written(
        tmp_path, classes=(), confusion=None, mistakes=[], reliability=None,
        history=[epoch(1, mae=3.0), epoch(2, mae=2.0)], final={"mae": 2.0},
    )  # fmt: skip
    text = plain(html)
    assert "best validation mae 2.000 in epoch 2" in text
    assert "Worst errors None." in text
    assert "Confusion" not in text
    assert "Each class" not in text


def test_nothing_at_all_is_a_page_too(tmp_path: Path) -> None:
    html = written(
        tmp_path, history=[], final={}, classes=(), confusion=None, mistakes=[], reliability=None,
        explain="", environment={}, command="",
    )  # fmt: skip
    assert "No epoch was trained." in plain(html)


def test_multi_label_figures_of_classes_need_no_confusion(tmp_path: Path) -> None:
    text = plain(written(tmp_path, confusion=None, history=[], reliability=None))
    assert "Confusion" not in text
    assert "cat 0.7000" in text
    assert "most often taken for" not in text


def test_a_loss_that_is_no_number_is_said(tmp_path: Path) -> None:
    history = [epoch(1, loss=1.0), epoch(2, loss=NAN), epoch(3, loss=float("inf"))]
    html = written(tmp_path, history=history)
    assert "Not a finite number: epoch 2 (validation), epoch 3 (validation)." in html
    assert headline([epoch(1, loss=NAN)], {}) == (
        "1 epoch; the validation loss was never a finite number."
    )


def test_a_failed_write_leaves_the_old_page(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("before")
    wrong = Mistake(torch.zeros(2, 8, 8, dtype=torch.uint8), "cat", "dog", 1.0)
    with pytest.raises(ArgumentError, match=r"image must be uint8 \[1 or 3, H, W\]"):
        written(tmp_path, mistakes=[wrong], history=[])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "before"


def test_a_confusion_matrix_of_other_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"must be \[3, 3\] for 3 classes, got int64\[2, 2\]"):
        report.write(tmp_path, **arguments(confusion=torch.zeros(2, 2, dtype=torch.int64)))


@pytest.mark.parametrize("classes", [2, 10, 30, 100])
def test_a_matrix_is_as_wide_as_a_page_and_its_text_stays_readable(classes: int) -> None:
    counts = [[12 * (row == column) for column in range(classes)] for row in range(classes)]
    counts[0][1] = 3
    matrix = draw(counts, [f"class {number}" for number in range(classes)])
    assert matrix.left + matrix.side < 1250
    assert matrix.font >= 9
    assert matrix.digits == 0 or matrix.digits >= 7
    assert [(cell.row, cell.column, cell.count) for cell in matrix.confused] == [(0, 1, 3)]


def test_counts_that_do_not_fit_are_left_out_and_long_names_keep_their_ends() -> None:
    names = [f"a very long name of a class, number {number}" for number in range(100)]
    matrix = draw([[123456] * 100] * 100, names)
    assert matrix.digits == 0
    assert matrix.label(7).endswith("7")
    assert matrix.label(7) != matrix.label(8)


def shown(image: torch.Tensor) -> Image.Image:
    _, _, data = data_url(image).partition(",")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_pictures_keep_their_pixels_and_large_ones_are_reduced() -> None:
    image = torch.randint(256, (3, 5, 7), dtype=torch.uint8)
    small = shown(image)
    assert small.size == (7, 5)
    assert small.getpixel((6, 4)) == tuple(image[:, 4, 6].tolist())
    grey = shown(image[:1])
    assert (grey.mode, grey.getpixel((2, 1))) == ("L", int(image[0, 1, 2]))
    assert shown(torch.zeros(3, 400, 800, dtype=torch.uint8)).size == (320, 160)
    with pytest.raises(ArgumentError, match="must have a pixel"):
        data_url(torch.zeros(3, 0, 5, dtype=torch.uint8))
    with pytest.raises(ArgumentError, match="got float32"):
        data_url(torch.zeros(3, 4, 5))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.97216, "0.9722"), (1.0, "1.0000"), (0.0012345, "0.001234"), (12.345, "12.35"),
     (12345.6, "12,346"), (-2.5, "-2.500"), (0.0, "0"), (NAN, "nan")],
)  # fmt: skip
def test_figures_have_four_digits(value: float | None, text: str) -> None:
    assert figure(value) == text
