import json

import pytest

from avatar.data.skipped import Failure, Skipped, print_failures


def words_of(text):
    return "".join(c for c in text if not c.isspace() and c not in "│┃")  # a folded table reads on


def failures_of(**causes):
    """``cause=count``; keys and reasons are numbered through."""
    return [Failure(f"{c}{i:02}", f"why {c}{i:02}", c.replace("_", " ")) for c, n in causes.items() for i in range(n)]


def test_the_latest_failure_of_each_record_is_kept():
    skipped = Skipped()
    assert (len(skipped), skipped.failures) == (0, {})
    first, second, again = Failure("a", "x"), Failure("b", "y"), Failure("a", "z", "no sound")
    for failure in (first, second, again):
        skipped.add(failure, 0)
    assert len(skipped) == 2
    assert skipped.failures == {"a": again, "b": second}


def test_every_failure_is_a_line_of_json_in_the_order_they_came(tmp_path):
    skipped = Skipped(tmp_path / "new" / "folder" / "skipped.jsonl")
    skipped.add(Failure("a/q0", "00000.tar: a/q0: kaputt: 'é 几'\nline two", "no sound"), 0)
    skipped.add(Failure("b", "gone"), 3)
    skipped.add(Failure("a/q0", "gone", "broken shard"), 3)
    text = skipped.log.read_text(encoding="utf-8")
    assert "é 几" in text
    assert [json.loads(line) for line in text.splitlines()] == [
        {"epoch": 0, "key": "a/q0", "cause": "no sound", "reason": "00000.tar: a/q0: kaputt: 'é 几'\nline two"},
        {"epoch": 3, "key": "b", "cause": "broken record", "reason": "gone"},
        {"epoch": 3, "key": "a/q0", "cause": "broken shard", "reason": "gone"},
    ]


def test_a_run_that_goes_on_adds_to_what_is_written(tmp_path):
    for key in "ab":
        Skipped(tmp_path / "skipped.jsonl").add(Failure(key, "x"), 0)
    assert [json.loads(line)["key"] for line in (tmp_path / "skipped.jsonl").read_text().splitlines()] == ["a", "b"]


def test_without_failures_nothing_is_written_or_printed(tmp_path, capsys):
    skipped = Skipped(tmp_path / "skipped.jsonl")
    skipped.end_pass(0, [], 10)
    assert not skipped.log.exists()
    assert capsys.readouterr() == ("", "")


def test_the_end_of_a_pass_shows_the_failures_of_that_pass_alone(tmp_path, capsys):
    skipped = Skipped(tmp_path / "skipped.jsonl")
    first, second = failures_of(no_sound=2, cut_short=1), [Failure("later", "x", "time limit")]
    for failure in first + second:
        skipped.add(failure, 0)
    skipped.end_pass(0, first, 25)
    out, err = capsys.readouterr()
    shown = words_of(err)
    assert out == ""
    assert "epoch0:3of25recordswereskipped;allarenamedin" in shown
    assert words_of(str(skipped.log)) in shown
    assert "nosound2" in shown
    assert "cutshort1" in shown
    skipped.end_pass(1, second, 25)
    shown = words_of(capsys.readouterr().err)
    assert "epoch1:1of25recordswereskipped" in shown
    assert "timelimit1" in shown
    assert "nosound" not in shown
    skipped.end_pass(2, [], 25)
    assert capsys.readouterr() == ("", "")
    assert len(skipped) == 4  # the run's own list is whole


def test_causes_are_counted_the_commonest_first_and_examples_are_few(capsys):
    print_failures(failures_of(no_sound=2, cut_short=5, too_large=1))
    shown = words_of(capsys.readouterr().err)
    assert "8recordswereskipped" in shown
    order = [shown.index(words) for words in ("cutshort5", "nosound2", "toolarge1")]
    assert order == sorted(order)
    assert "whycut_short02...and2more" in shown
    assert "whycut_short03" not in shown
    assert "whyno_sound01" in shown
    assert shown.count("more") == 1


@pytest.mark.parametrize("num", [20, 21])
def test_a_list_may_be_longer_and_says_how_many_more(num, capsys):
    print_failures(failures_of(no_sound=num), "what is wrong", most=20)
    shown = words_of(capsys.readouterr().err)
    assert "whatiswrong" in shown
    assert f"nosound{num}" in shown
    assert "whyno_sound19" in shown
    assert "whyno_sound20" not in shown
    assert ("...and1more" in shown) is (num == 21)


@pytest.mark.parametrize("reason", ["data/clips[v2]/00000.tar: no good", "unknown field '[/video]'", "[red]x[/red]"])
def test_brackets_are_printed_as_they_are(reason, capsys):
    print_failures([Failure("clip[a]", reason)])
    shown = words_of(capsys.readouterr().err)
    assert words_of(reason) in shown
    assert "clip[a]" in shown


@pytest.mark.parametrize("path", ["runs[v2]", "runs[/x]"])
def test_brackets_in_the_name_of_the_run_are_printed_as_they_are(path, tmp_path, capsys):
    skipped = Skipped(tmp_path / path / "skipped.jsonl")
    skipped.end_pass(0, [Failure("a", "x")], 1)
    assert words_of(f"{path}/skipped.jsonl") in words_of(capsys.readouterr().err)


def test_brackets_in_a_cause_or_title_are_printed_as_they_are(capsys):
    print_failures([Failure("a", "x", "cause [b]")], "folder[c] ...")
    shown = words_of(capsys.readouterr().err)
    assert "cause[b]1" in shown
    assert "folder[c]..." in shown


def test_what_a_hostile_key_holds_cannot_move_the_cursor(capsys):
    print_failures([Failure("a\x1b[2J\x1b]0;title\x07", "why\x1b[31m")])
    assert "\x1b[2J" not in (shown := capsys.readouterr().err)
    assert "\x1b]0;" not in shown
    assert "\x1b[31m" not in shown
