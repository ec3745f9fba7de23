import json
from html.parser import HTMLParser

import pytest
from report.folders import write_run, write_sweep

from avatar.errors import ConfigError
from avatar.report.arms import group_runs
from avatar.report.figures.accuracy import ACCURACY_FIGURE
from avatar.report.figures.lengths import LENGTHS_FIGURE
from avatar.report.figures.tiers import TIERS_FIGURE
from avatar.report.find import find_runs
from avatar.report.runs import read_run
from avatar.report.write import check_out, write_report


class Reader(HTMLParser):
    """Takes down elements and text, and checks that they are closed in order."""

    VOID = ("meta", "img")

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read_page(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def load(*paths):
    return group_runs([read_run(place) for place in find_runs(paths)])


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("sweep") / "s", title='three & <b>"arms"</b>')


@pytest.fixture
def few(monkeypatch):
    """Two figures alone: drawing all takes seconds."""
    monkeypatch.setattr("avatar.report.write.FIGURES", (ACCURACY_FIGURE, TIERS_FIGURE))


@pytest.fixture(scope="module")
def written(sweep, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "deep" / "report"
    return write_report(load(sweep), out, {"runs/<i>lost</i>": "failed: out of <memory>"}, "All & more")


def test_the_page_holds_its_figures_and_asks_for_nothing_from_elsewhere(written):
    page = read_page(written.page)
    sources = [attrs["src"] for tag, attrs in page.seen if tag == "img"]
    assert len(sources) == len(written.drawn) == 9
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not any(tag in ("script", "link", "iframe") for tag, _ in page.seen)
    for tag, attrs in page.seen:
        if tag == "a":
            assert (written.page.parent / attrs["href"]).is_file()


def test_every_picture_says_what_it_looks_like(written):
    page = read_page(written.page)
    assert all(len(attrs["alt"]) > 20 for tag, attrs in page.seen if tag == "img")
    assert sum(tag == "figcaption" for tag, _ in page.seen) == 9


def test_names_are_text_and_never_markup(written):
    page = read_page(written.page)
    assert "runs/<i>lost</i>: failed: out of <memory>" in page.text
    assert 'three & <b>"arms"</b>: made by avatar sweep' in page.text
    assert not any(tag == "i" for tag, _ in page.seen)


def test_an_arm_in_a_caption_is_text_too(tmp_path, monkeypatch):
    monkeypatch.setattr("avatar.report.write.FIGURES", (LENGTHS_FIGURE,))
    runs = load(write_run(tmp_path / "a<i>&", steps=4), write_run(tmp_path / "b", steps=4))
    page = read_page(write_report(runs, tmp_path / "out", {}, "t").page)
    assert "its baseline (a<i>&)" in page.text
    assert not any(tag == "i" for tag, _ in page.seen)


def test_the_end_of_the_page_says_what_was_left_out_and_what_would_bring_it(written):
    page = read_page(written.page)
    assert "Strength of the credit shape (figure 10 of the paper): needs runs that differ in" in page.text
    assert "6 runs in 3 arms. 1 run could not be used; the end of the page says why." in page.text


def test_the_numbers_behind_each_figure_are_written(written):
    report = json.loads((written.page.parent / "report.json").read_text())
    assert report["finished"]
    assert tuple(report["figures"]) == written.drawn
    assert all(figure["numbers"] for figure in report["figures"].values())
    assert [row["runs"] for row in report["table"]] == [2, 2, 2]
    assert report["left_out"] == {"runs/<i>lost</i>": "failed: out of <memory>"}
    for name in written.drawn:
        for ending in ("png", "svg"):
            assert (written.page.parent / "figures" / f"{name}.{ending}").stat().st_size > 1000


def test_the_same_runs_give_the_same_bytes(sweep, tmp_path, few):
    pages = [write_report(load(sweep), tmp_path / name, {}, "t").page.parent for name in ("one", "two")]
    files = [sorted(file.relative_to(page) for file in page.rglob("*") if file.is_file()) for page in pages]
    assert len(files[0]) == 6  # page, numbers, two figures of two formats
    assert files[0] == files[1]
    for file in files[0]:
        assert (pages[0] / file).read_bytes() == (pages[1] / file).read_bytes(), file


def test_a_second_report_replaces_the_first_and_leaves_no_figure_of_it(tmp_path, few):
    out = tmp_path / "report"
    first = write_report(load(write_run(tmp_path / "avatar", steps=4, replayed=4)), out, {}, "first")
    assert first.drawn == ("accuracy", "tiers")
    (out / "figures" / "mine.png").write_text("kept")
    second = write_report(load(write_run(tmp_path / "grpo", steps=4)), out, {}, "second")
    assert second.drawn == ("accuracy",)
    assert sorted(file.name for file in (out / "figures").iterdir()) == ["accuracy.png", "accuracy.svg", "mine.png"]
    assert "second" in read_page(second.page).text


def test_a_sweep_with_a_table_of_its_own_is_not_in_ours(tmp_path, sweep, few):
    runs = load(sweep, write_run(tmp_path / "plain"))
    page = read_page(write_report(runs, tmp_path / "out", {}, "t", {sweep: "<p>its own table</p>"}).page)
    assert "its own table" in page.text
    table = page.text.split("its own table")[1].split("Last and best")[0]
    assert "plain" in table
    assert "grpo4" not in table


def test_a_run_without_validation_is_named(tmp_path, few):
    runs = load(write_run(tmp_path / "blind", validated=False))
    page = read_page(write_report(runs, tmp_path / "out", {}, "t").page)
    assert "blind: no validation (val/accuracy), so it is in no figure of accuracy" in page.text


# -- where it may be written -------------------------------------------------------------------------------------------


def test_only_a_new_an_empty_or_an_own_folder_is_written_to(tmp_path):
    check_out(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_out(tmp_path / "empty")
    for name, text in {"notes.txt": "mine", "report.json": '{"mine": 1}', "other/report.json": "[1]"}.items():
        file = tmp_path / name.replace("/", "-").replace(".", "-") / name.split("/")[-1]
        file.parent.mkdir()
        file.write_text(text)
        with pytest.raises(ConfigError, match="has files in it that no `avatar report` has written"):
            check_out(file.parent)
    with pytest.raises(ConfigError, match="is a file; give a folder that is new"):
        check_out(file)


def test_what_a_report_that_was_cut_off_has_left_is_known_as_ours(tmp_path, few, monkeypatch):
    runs = load(write_run(tmp_path / "run"))
    monkeypatch.setattr("avatar.report.write.page_of", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(runs, tmp_path / "out", {}, "t")
    assert any((tmp_path / "out" / "figures").iterdir())
    check_out(tmp_path / "out")
