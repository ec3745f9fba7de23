import json
from itertools import pairwise

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.video_tt import VideoTT, VideoTTOpen, find_options
from avatar.data.schema import Medium
from avatar.errors import DataError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

KITE = {
    "qid": "7-1",
    "video_id": "k1",
    "duration": "20",
    "question": "What colour is the kite?",
    "question_prompt": "A. White\nB. Red\nC. Blue\nD. Green\nE. Grey\nAnswer with a letter.",
    "capability": "Element Attributes",
    "answer": "B",
}
OPEN = KITE | {"question_prompt": "Answer in a few words.", "answer": "Red"}


def write(path, *records):
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)


def choices(root, *records):
    write(root / "data/test-00000-of-00001.parquet", *records)
    return VideoTT().questions(root)


def open_ones(root, *records, split="no_leading"):
    write(root / f"data/test_{split}_oe-00000-of-00001.parquet", *records)
    return VideoTTOpen().questions(root)


def test_options_are_found_in_the_text_that_holds_them(tmp_path):
    (tmp_path / "Benchmark-AllVideos-LQ").mkdir()
    (tmp_path / "Benchmark-AllVideos-LQ/k1.mkv").touch()
    write(tmp_path / "data/test_no_leading_oe-00000-of-00001.parquet", OPEN)  # another split is left alone
    (kite,) = choices(tmp_path, KITE)
    assert (kite.key, kite.text, kite.gold) == ("7-1", "What colour is the kite?", "B")
    assert kite.options == ("White", "Red", "Blue", "Green", "Grey")
    assert kite.media == (Medium("video", "Benchmark-AllVideos-LQ/k1.mkv"),)
    assert kite.groups == {"capability": "Element Attributes"}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("(A) a dog (B) a cat", ("a dog", "a cat")),
        ("Options: A: a dog B: a cat\nAnswer.", ("a dog", "a cat")),
        ("A. vitamin C. a\nB. none. A. such\n", ("vitamin C. a", "none. A. such")),  # lines go before what looks alike
        ("Choose.\nA. one\n of two\nB. two", ("one\n of two", "two")),
    ],
)
def test_options_stand_on_lines_or_in_one(text, options):
    assert find_options(text, "x") == options


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (KITE | {"question_prompt": "Answer in a few words."}, "parquet#2: field 'question_prompt' must hold options"),
        (KITE | {"answer": "F"}, "'answer' must be the letter of an option, A to E"),
        (KITE | {"video_id": "../k1"}, "leads out of"),
    ],
)
def test_a_broken_record_is_named(tmp_path, record, message):
    with pytest.raises(DataError, match=message):
        choices(tmp_path, KITE, record)


@pytest.mark.parametrize(
    ("output", "avatar", "official"),
    [
        ("B", 1, 1),
        ("<think>A or B</think><answer>B</answer>", 1, 0),  # the first capital letter, wherever it stands
        ("Best answer: B", 1, 1),
        ("Red", 1, 0),
        ("A man, so B", 0, 0),
        ("Each of them: B", 0, 0),
        ("", 0, 0),
    ],
)
def test_both_rules_read_a_reply_each_in_its_way(tmp_path, output, avatar, official):
    (question,) = choices(tmp_path, KITE)
    benchmark = VideoTT()
    for asked in (question, benchmark.question_of_row(json.loads(json.dumps(question_row(question))))):
        scores = [benchmark.grade(output, asked, scoring).score for scoring in ("avatar", "official")]
        assert scores == [avatar, official]


def test_the_splits_that_are_there_are_asked_for_words(tmp_path):
    open_ones(tmp_path, OPEN, split="paraphrased")
    first, second = open_ones(tmp_path, OPEN)
    assert [q.key for q in (first, second)] == ["no_leading/7-1", "paraphrased/7-1"]
    assert first.groups == {"split": "no_leading", "capability": "Element Attributes"}
    assert (first.gold, first.problem_type, first.options) == ("Red", "free", ())


def test_only_a_judge_can_tell_whether_words_are_right(tmp_path):
    (question,) = open_ones(tmp_path, OPEN)
    benchmark = VideoTTOpen()
    reply = "<think>see the sky</think><answer>It is red.</answer>"
    row = benchmark.question_of_row(json.loads(json.dumps(question_row(question))))
    for scoring, shown in (("avatar", "It is red."), ("official", reply)):
        assert benchmark.grade(reply, question, scoring) == benchmark.grade(reply, row, scoring)
        assert benchmark.grade(reply, question, scoring).score is None
        request = benchmark.judge_request(reply, question, scoring)
        lines = request.messages[-1]["content"].split("\n")
        assert [json.loads(reply) for mark, reply in pairwise(lines) if mark == "<<<REPLY"] == [shown]
        assert 'Correct answer: "Red"' in lines
    assert [benchmark.judged({"score": n}, question, "avatar").score for n in range(6)] == [0, 0, 0, 1, 1, 1]


def test_our_rule_asks_no_judge_about_what_it_cannot_read(tmp_path):
    (question,) = open_ones(tmp_path, OPEN)
    benchmark = VideoTTOpen()
    for reply in ("", "<answer>red</answer><answer>blue</answer>"):
        assert (benchmark.avatar(reply, question).score, benchmark.avatar(reply, question).how) == (0, "unparsed")
        assert benchmark.judge_request(reply, question, "avatar") is None
        assert benchmark.judge_request(reply, question, "official") is not None
