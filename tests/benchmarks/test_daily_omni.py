import json
import shutil
from pathlib import Path

import pytest

from avatar.benchmarks.daily_omni import DailyOmni
from avatar.benchmarks.exams.replies import question_row
from avatar.data.schema import Medium
from avatar.errors import DataError

SAMPLE = Path(__file__).parents[3] / "shared/data/benchmarks/daily_omni/qa.first300.json"
DOG = {
    "Question": "What is heard as the dog jumps?",
    "Choice": ["A. A bell", "B. A drum → a bell", "C. Rain", "D. Nothing"],
    "Answer": "B",
    "video_id": "x-1_Y",
    "Type": "AV Event Alignment",
    "content_parent_category": "Pets",
    "video_category": "Pets & Animals",
    "video_duration": "30s",
}


def questions(root, *records):
    (root / "qa.json").write_text(json.dumps(records))
    return DailyOmni().questions(root)


def test_a_question_shows_a_video_with_its_sound(tmp_path):
    (question,) = questions(tmp_path, DOG)
    assert (question.text, question.gold, question.options) == (DOG["Question"], "B", tuple(DOG["Choice"]))
    assert question.texts[1] == "A drum → a bell"
    assert question.media == (Medium("video", "Videos/x-1_Y/x-1_Y_video.mp4"),)
    assert question.groups == {"type": "AV Event Alignment", "category": "Pets & Animals", "duration": "30s"}


def test_questions_have_keys_of_their_own_though_records_have_no_ids(tmp_path):
    other = DOG | {"video_id": "z"}
    assert [q.key for q in questions(tmp_path, DOG, other, DOG, DOG)] == ["x-1_Y", "z", "x-1_Y#2", "x-1_Y#3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Answer": "E"}, r"qa.json#2: field 'Answer' must be the letter of an option, A to D, got 'E'"),
        ({"Choice": "A. A bell"}, "qa.json#2: field 'Choice' has the wrong type"),
        ({"video_id": "../x"}, "leads out of"),
        ({"Type": None}, "field 'Type' has the wrong type"),
    ],
)
def test_a_broken_record_is_named(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, DOG, DOG | change)


@pytest.mark.parametrize(
    ("output", "avatar", "official", "authors"),
    [
        ("B", 1, 1, 1),
        (" b, I think", 0, 1, 0),  # I stands alone, too
        ("Because of the bell: C", 0, 1, 0),  # the first character alone
        ("(B)", 1, 0, 1),
        ("The answer is B.", 1, 0, 1),
        ("assistant\nB", 0, 1, 1),
        ("A for assistant: B", 0, 0, 1),  # what follows is ": B"
        ("A, says the assistant B, not the assistant C", 0, 1, 0),  # the first "assistant"
        ("<answer>b</answer>", 1, 0, 1),
        ("", 0, 0, 0),
    ],
)
def test_three_rules_read_a_reply_each_in_its_way(tmp_path, output, avatar, official, authors):
    (question,) = questions(tmp_path, DOG)
    benchmark = DailyOmni()
    row = benchmark.question_of_row(question_row(question))
    for asked in (question, row):
        scores = [benchmark.grade(output, asked, scoring).score for scoring in ("avatar", "official", "authors")]
        assert scores == [avatar, official, authors]
    assert benchmark.official(output, question).counted


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"{SAMPLE} is not there: annotation data is not in the repository")
def test_the_first_300_records_of_the_real_file_load(tmp_path):
    shutil.copy(SAMPLE, tmp_path / "qa.json")
    loaded = DailyOmni().questions(tmp_path)
    assert len(loaded) == len({q.key for q in loaded}) == 300
    assert {q.groups["duration"] for q in loaded} <= {"30s", "60s"}
    assert all(len(q.options) == 4 and q.texts != q.options for q in loaded)  # all have letters
    assert all(DailyOmni().grade(f"<answer>{q.gold}</answer>", q).score == 1 for q in loaded)
