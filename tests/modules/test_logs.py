import csv
import json

import pytest

from avatar.modules.logs import RunLogger, StepLines, StepTable, is_due, is_measured


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_values_of_one_step_share_a_row(tmp_path):
    sheet = StepTable(tmp_path / "m.csv")
    sheet.write(1, {"loss": "0.5"})
    sheet.write(1, {"val": "0.9"})
    sheet.write(2, {"loss": "0.4"})
    assert (tmp_path / "m.csv").read_text() == "step,loss,val\n1,0.5,0.9\n2,0.4,\n"


def test_a_column_that_turns_up_later_is_empty_above(tmp_path):
    sheet = StepTable(tmp_path / "m.csv")
    for step in (1, 2, 3):
        sheet.write(step, {"loss": str(step)})
    sheet.write(4, {"kl": "7"})
    sheet.write(5, {"loss": "5", "kl": "8"})
    assert [(r["step"], r["loss"], r["kl"]) for r in table(tmp_path / "m.csv")] == [
        ("1", "1", ""),
        ("2", "2", ""),
        ("3", "3", ""),
        ("4", "", "7"),
        ("5", "5", "8"),
    ]


def test_every_row_is_on_disk_at_once(tmp_path):
    sheet = StepTable(tmp_path / "m.csv")
    for step in range(5):
        sheet.write(step, {"loss": str(step)})
        assert [int(r["step"]) for r in table(tmp_path / "m.csv")] == list(range(step + 1))


@pytest.mark.parametrize("keep", range(7))
def test_a_resumed_table_equals_one_that_never_stopped(tmp_path, keep):
    def write(sheet, steps):
        for step in steps:
            sheet.write(step, {"loss": str(step / 7)})
            if step % 2 == 0:
                sheet.write(step, {"val": str(step)})

    write(StepTable(tmp_path / "whole.csv"), range(7))
    write(StepTable(tmp_path / "cut.csv"), range(7))
    with (tmp_path / "cut.csv").open("a") as file:
        file.write("7,0.1")  # a row cut off in the middle
    write(StepTable(tmp_path / "cut.csv", keep_until=keep), range(keep + 1, 7))
    assert table(tmp_path / "cut.csv") == table(tmp_path / "whole.csv")


def test_a_new_run_sets_the_old_file_aside(tmp_path):
    for content in ("a", "b", "c"):
        StepTable(tmp_path / "m.csv").write(1, {"loss": content})
    assert "a" in (tmp_path / "m.1.csv").read_text()
    assert "b" in (tmp_path / "m.2.csv").read_text()
    assert "c" in (tmp_path / "m.csv").read_text()


def test_lines_are_cut_to_the_step_and_a_broken_last_one_is_dropped(tmp_path):
    lines = StepLines(tmp_path / "c.jsonl")
    lines.write({"step": s, "text": "ü\n"} for s in (1, 1, 2, 3))
    with (tmp_path / "c.jsonl").open("a") as file:
        file.write('{"step": 3, "te')
    StepLines(tmp_path / "c.jsonl", keep_until=2).write([{"step": 3, "text": "new"}])
    kept = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert [(o["step"], o["text"]) for o in kept] == [(1, "ü\n"), (1, "ü\n"), (2, "ü\n"), (3, "new")]


def test_readings_of_the_machine_lie_apart(tmp_path):
    logger = RunLogger(tmp_path)
    logger.log_metrics({"loss": 1 / 3, "time/score": 0.1, "memory/rss_mb": 5.0, "epoch": 0}, step=3)
    assert list(table(tmp_path / "metrics.csv")[0].items()) == [("step", "3"), ("loss", "0.33333333")]
    assert set(table(tmp_path / "timings.csv")[0]) == {"step", "time/score", "memory/rss_mb"}
    assert not is_measured("completion/length")


@pytest.mark.parametrize(
    ("before", "now", "every", "due"),
    [(0, 5, 5, True), (4, 6, 5, True), (5, 6, 5, False), (5, 10, 5, True), (0, 4, 5, False), (3, 9, 0, False)],
)
def test_it_is_time_whenever_a_multiple_is_reached_or_passed(before, now, every, due):
    assert is_due(before, now, every) is due
