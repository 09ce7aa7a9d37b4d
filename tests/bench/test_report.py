"""The report: nothing of its input is hidden, and nothing in it needs a network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cvperf import files
from cvperf.bench import report, results
from cvperf.bench.report import content, runs, summary, text
from cvperf.bench.report.runs import Run
from cvperf.bench.results import ResultsError
from tests.bench.made_up import ENVIRONMENT, ceilings, every_kind, race, row, save


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> report.Outcome:
    folder = tmp_path_factory.mktemp("report")
    return report.write([save(folder / "all.jsonl", every_kind())], folder / "out")


@pytest.fixture(scope="module")
def html(written: report.Outcome) -> str:
    return written.html.read_text()


@pytest.fixture(scope="module")
def markdown(written: report.Outcome) -> str:
    return written.markdown.read_text()


def test_every_case_is_counted_once(written: report.Outcome) -> None:
    counts = written.counts
    assert counts.cases == 10
    parts = (counts.faster, counts.even, counts.slower, counts.unopposed, counts.absent)
    assert parts == (5, 1, 1, 1, 1)
    assert counts.without_time == 1
    assert (counts.wrong, counts.failed, counts.rows) == (2, 1, len(every_kind()))


# Runs


def test_files_of_one_machine_are_one_run(tmp_path: Path) -> None:
    save(tmp_path / "a.jsonl", [*ceilings(), *race({"cvperf": 1.0})])
    moved = ENVIRONMENT | {"cpu_mhz": "another clock"}
    save(tmp_path / "b.jsonl", [*ceilings(), *race({"cvperf": 1.0}, case="b", environment=moved)])
    (found,) = runs.load([tmp_path])
    assert found.name == ""
    assert found.environment["cpu_mhz"] == "2000 to 3000; another clock"


def test_two_machines_or_two_runs_of_one_are_kept_apart(tmp_path: Path) -> None:
    save(tmp_path / "a.jsonl", race({"cvperf": 1.0, "torch": 2.0}))
    save(tmp_path / "b.jsonl", race({"cvperf": 1.0, "torch": 2.0}))
    other = ENVIRONMENT | {"cpu": "Another"}
    save(tmp_path / "c.jsonl", race({"cvperf": 1.0, "torch": 2.0}, environment=other))
    found = runs.load([tmp_path])
    assert [run.name for run in found] == ["A", "B", "C"]
    assert [g.run for g in summary.groups(summary.contests(found))] == ["A", "B", "C"]


def test_the_same_row_twice_in_a_file_is_refused(tmp_path: Path) -> None:
    twice = save(tmp_path / "a.jsonl", [row(), row()])
    with pytest.raises(ResultsError, match=r"a\.jsonl times cvperf on kernels nms .* twice"):
        runs.load([twice])


def test_a_file_without_rows_is_an_error_that_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cvperf bench kernels"):
        report.write([save(tmp_path / "empty.jsonl", [])], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"holds no \.jsonl file"):
        report.write([tmp_path], tmp_path / "out")


# The page


class Cells(HTMLParser):
    """The text of each body row of the table with an id."""

    def __init__(self, table: str) -> None:
        super().__init__()
        self.table, self.inside, self.rows = table, False, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.inside = dict(attrs).get("id") == self.table
        elif tag == "tr" and self.inside:
            self.rows.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside and self.rows:
            self.rows[-1] += data


def rows_of(html: str, table: str) -> list[str]:
    parser = Cells(table)
    parser.feed(html)
    return parser.rows[1:]  # without the head


def details_of(html: str) -> list[dict]:
    found = re.search(r'<script type="application/json" id="details">(.*?)</script>', html)
    assert found is not None
    return json.loads(found[1])


def test_every_row_of_the_input_is_in_the_table_with_its_command(html: str) -> None:
    given = every_kind()
    shown = rows_of(html, "all")
    assert len(shown) == len(given)
    for one, line in zip(given, shown, strict=True):
        assert one.case in line
        assert one.contender in line
        assert one.status in line
    assert [each["command"] for each in details_of(html)] == [one.command for one in given]


def test_the_page_needs_nothing_from_outside(html: str) -> None:
    addresses = set(re.findall(r"https?://[^\"' )]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r'(src|href)="(?!data:|#)', html.replace("xlink:href", "href"))
    assert "default-src 'none'" in html


def test_text_of_the_results_cannot_become_markup(html: str, markdown: str) -> None:
    assert "<b>bold" not in html
    assert "&lt;b&gt;bold | claim" in html
    assert "a &lt;grey&gt; square" in html
    assert "<b>bold" not in markdown
    assert r"bold \| claim" in markdown


def test_losses_wrong_answers_and_absent_peers_are_named_on_both(html: str, markdown: str) -> None:
    for page in (html, markdown):
        for told in (
            "resnet50 conv3", "the error 0.5 is beyond 0.001", "pip install tensorflow",
            "openvino keeps no order", "planted",
        ):  # fmt: skip
            assert told in page


def test_the_lost_table_holds_the_losses(html: str) -> None:
    (line,) = rows_of(html, "lost")
    assert "resnet50 conv3" in line
    assert "torch" in line
    assert "slower" in line


def test_every_plot_has_a_title_a_unit_and_words_for_those_who_cannot_see_it(html: str) -> None:
    plots = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', html)
    assert any("Roofline" in plot for plot in plots)
    for unit in (
        "time of a call (ms)",
        "operations / second",
        "peak memory (MiB)",
        "bytes / second",
    ):
        assert unit in html
    assert all(len(plot) > 40 for plot in plots)


def test_plots_take_the_pages_colours(html: str) -> None:
    for svg in re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL):
        assert "var(--ink)" in svg
        assert not re.search(r"#(?!m|p|Deja)[0-9a-f]{6}\b", svg)


def test_without_ceilings_the_plot_says_what_to_run(tmp_path: Path) -> None:
    file = save(tmp_path / "a.jsonl", race({"cvperf": 1.0, "torch": 2.0}))
    assert "cvperf bench peaks" in report.write([file], tmp_path / "out").html.read_text()


def test_results_of_peers_alone_make_a_report(tmp_path: Path) -> None:
    file = save(tmp_path / "a.jsonl", [*ceilings(), *race({"torch": 2.0, "openvino": 1.0})])
    outcome = report.write([file], tmp_path / "out")
    assert outcome.counts.absent == 1
    assert "cvperf not measured" in outcome.html.read_text()


def test_models_show_throughput_shares_and_pictures(html: str) -> None:
    assert "data:image/png;base64," in html
    assert "80.0 %" in html
    assert "40.0" in html


def test_a_picture_that_is_none_is_refused(tmp_path: Path) -> None:
    bad = {"pictures": [{"caption": "c", "png": "aGVsbG8="}]}
    file = save(tmp_path / "a.jsonl", race({"cvperf": 1.0}, suite="models", detail=bad))
    with pytest.raises(ResultsError, match="picture 'c'"):
        report.write([file], tmp_path / "out")


def test_markdown_says_how_many_lines_it_left_out(tmp_path: Path) -> None:
    rows = [
        each
        for i in range(40)
        for each in race({"cvperf": 2.0, "torch": 1.0}, case=f"case {i}", seed=i)
    ]
    outcome = report.write([save(tmp_path / "a.jsonl", rows)], tmp_path / "out")
    told = outcome.markdown.read_text()
    assert "25 more are in index.html" in told
    assert len(told) < 10_000


def test_markdown_tables_have_as_many_cells_in_each_line_as_in_their_head(markdown: str) -> None:
    for block in re.split(r"\n\n+", markdown):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) <= 1, block


# Against a baseline


def test_a_regression_is_marked_and_in_the_outcome(tmp_path: Path) -> None:
    times = {"cvperf": 1.0, "torch": 2.0}
    before = save(tmp_path / "before.jsonl", race(times, seed=1, rounds=30))
    after = save(tmp_path / "after.jsonl", race(times | {"cvperf": 1.3}, seed=2, rounds=30))
    outcome = report.write([after], tmp_path / "out", against=before)
    assert [change.verdict for change in outcome.regressions] == ["regression"]
    assert "1 slower beyond noise" in outcome.headline
    assert "regression" in rows_of(outcome.html.read_text(), "changes")[0]
    assert "| regression |" in outcome.markdown.read_text()


def test_another_machine_in_the_baseline_is_warned_of(tmp_path: Path) -> None:
    rows = race({"cvperf": 1.0, "torch": 2.0})
    other = [replace(r, environment=ENVIRONMENT | {"cpu": "Another"}) for r in rows]
    found = content.against([Run("", tuple(rows))], [Run("", tuple(other))])
    assert found.warnings == (
        "cpu differs: the baseline has Another, these results Imaginary 9000; a change may be "
        "the machine's",
    )


def test_a_baseline_of_other_cases_is_an_error() -> None:
    with pytest.raises(ValueError, match="share no row"):
        content.against([Run("", (row(),))], [Run("", (row(case="other"),))])


# Files


def test_a_run_that_dies_leaves_the_old_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index.html").write_text("old")

    def dies(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", dies)
    with pytest.raises(OSError, match="no space"):
        files.replace(tmp_path / "index.html", "new")
    assert [each.name for each in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "old"


def test_a_missing_library_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'cvperf\[report\]'"):
        report.write([Path("a.jsonl")], Path("out"))


# Numbers as text


@pytest.mark.parametrize(
    ("value", "shown"), [(0.00123, "0.00123"), (12.345, "12.3"), (4567.8, "4,568"), (0.0, "0")]
)
def test_times_have_three_digits(value: float, shown: str) -> None:
    assert text.ms(value) == shown


def test_rates_have_a_prefix_and_a_unit() -> None:
    assert text.scaled(2.5e10, "B/s") == "25.0 GB/s"
    assert text.percent(0.031) == "3.1 %"
    assert text.shape({"input": [1, 3, 8, 8], "groups": 1}) == "input 1x3x8x8, groups 1"


def test_the_report_says_which_rows_had_a_process_of_their_own(tmp_path: Path) -> None:
    def pages(*rows: results.Measurement) -> list[str]:
        found = report.write([save(tmp_path / "a.jsonl", rows)], tmp_path / "out")
        return [path.read_text() for path in (found.html, found.markdown)]

    times = {"cvperf": 1.0, "torch": 2.0}
    together = race(times, suite="models", op="resnet50")
    detail = {"process": "one for each contender"}
    apart = race(times, suite="models", op="unet", detail=detail)
    said = "Each contender had a process of its own"
    assert all(said not in page for page in pages(*together))
    assert all(said in page and f"rows: {said}" not in page for page in pages(*apart))
    assert all(f"In 2 of 4 rows: {said}" in page for page in pages(*together, *apart))
