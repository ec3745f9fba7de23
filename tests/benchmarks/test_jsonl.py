import json

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.jsonl import JsonLines
from avatar.data.schema import Medium
from avatar.errors import ConfigError, DataError

PET = {
    "id": "a",
    "question": "Which animal is it?",
    "options": ["dog", "cat"],
    "answer": "cat",
    "media": [{"video": "clips/a.mp4", "start": 1.5, "end": 4}],
}
COUNT = {"id": 2, "question": "How many?", "answer": 3, "media": [{"audio": "b.wav"}, {"image": "b.png"}]}


def questions(root, *records, name="questions.jsonl"):
    (root / name).write_text("".join(json.dumps(record) + "\n\n" for record in records))
    return JsonLines().questions(root)


def test_a_line_is_a_question(tmp_path):
    pet, count = questions(tmp_path, PET | {"groups": {"topic": ["pets", "fur"], "year": "2020"}}, COUNT)
    assert (pet.key, pet.gold, pet.problem_type) == ("a", "B", "choice")
    assert pet.media == (Medium("video", "clips/a.mp4", 1.5, 4.0),)
    assert pet.groups == {"topic": ("pets", "fur"), "year": "2020"}
    assert (count.key, count.gold, count.problem_type) == ("2", "3", "number")
    assert [medium.kind for medium in count.media] == ["audio", "image"]


def test_lines_of_any_name_are_read_where_there_are_none_of_the_usual(tmp_path):
    (tmp_path / "pets.jsonl").write_text(json.dumps(PET) + "\n")
    (pet, count) = questions(tmp_path, COUNT, name="counts.jsonl")[::-1]
    assert (pet.key, count.key) == ("a", "2")


@pytest.mark.parametrize(
    ("change", "gold", "problem_type"),
    [
        ({"answer": "B"}, "B", "choice"),
        ({"options": ["A. dog", "B. cat"]}, "B", "choice"),
        ({"options": ["A. dog", "B. cat"], "answer": "(b)"}, "B", "choice"),
        ({"problem_type": "choices", "answer": "A, B"}, "A, B", "choices"),
        ({"options": []}, "cat", "exact"),
        ({"options": [], "answer": "3"}, "3", "exact"),  # a text is a text
        ({"options": [], "answer": "3", "problem_type": "number"}, "3", "number"),
        ({"options": [], "answer": 2.5}, "2.5", "number"),
        ({"options": [], "answer": "Left: cat", "problem_type": "location"}, "Left: cat", "location"),
    ],
)
def test_how_an_answer_is_read_follows_from_the_line_if_it_does_not_say(tmp_path, change, gold, problem_type):
    (question,) = questions(tmp_path, PET | change)
    assert (question.gold, question.problem_type) == (gold, problem_type)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (PET, r"jsonl:3: the id 'a' stands at .*jsonl:1 too"),
        (
            PET | {"id": "b", "answer": "cow"},
            "jsonl:3: gold answer 'cow' is no choice answer.*; give the letter, A to B, or",
        ),
        (PET | {"id": "b", "problem_type": "guess"}, "unknown problem_type 'guess'"),
        (PET | {"id": "b", "options": ["dog"]}, "'options' must hold 2 to 26 options"),
        (PET | {"id": "b", "media": [{"film": "a.mp4"}]}, r"media\[0\]: must be an object with one of video"),
        (PET | {"id": "b", "media": [{"video": "a.mp4", "start": 4, "end": 2}]}, "end must come after start"),
        (PET | {"id": "b", "media": [{"video": "../a.mp4"}]}, "leads out of"),
        (PET | {"id": "b", "groups": {"topic": 3}}, r"groups\['topic'\] must be a text"),
        (PET | {"id": "b", "anwser": "cat"}, "unknown field 'anwser'"),
        ({"id": "b"}, "field 'answer' is missing"),
        (["b"], r"jsonl:3: .*it is \['b'\]\. Each line must be one whole object"),
        (PET | {"id": " "}, "jsonl:3: field 'id' is empty"),
        (PET | {"id": "b", "question": ""}, "jsonl:3: field 'question' is empty; write what shall be asked$"),
        (PET | {"id": "b", "options": ["dog", "cat", "dog "]}, "jsonl:3: options A and C are equal, 'dog'"),
    ],
)
def test_a_broken_line_is_named(tmp_path, record, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, PET, record)


@pytest.mark.parametrize(
    ("record", "output", "score"),
    [
        (PET, "<answer>B</answer>", 1),
        (PET, "It is a cat.", 1),
        (PET, "A or B", 0),
        (PET | {"problem_type": "choices", "answer": "A,B"}, "<answer>A</answer>", 2 / 3),
        (COUNT, "three", 1),
        (COUNT, "", 0),
    ],
)
def test_our_rule_grades_and_there_is_no_other(tmp_path, record, output, score):
    (question,) = questions(tmp_path, record)
    benchmark = JsonLines()
    for asked in (question, benchmark.question_of_row(json.loads(json.dumps(question_row(question))))):
        assert benchmark.grade(output, asked).score == pytest.approx(score)
    with pytest.raises(ConfigError, match="--scoring must be avatar"):
        benchmark.grade(output, question, "official")


def test_of_a_row_a_number_for_an_answer_is_read_as_one():
    question = JsonLines().question_of_row({"id": 1, "gold": 12})
    assert (question.problem_type, JsonLines().question_of_row({"id": 1, "gold": "12"}).problem_type) == (
        "number",
        "exact",
    )


@pytest.mark.parametrize("options", [["+", "-"], ["CO", "Co"], ["1.0", "1"], ["cat", "a cat"]])
def test_options_that_differ_in_a_sign_or_a_capital_are_not_equal(tmp_path, options):
    (question,) = questions(tmp_path, PET | {"options": options, "answer": "B"})
    assert question.options == tuple(options)
